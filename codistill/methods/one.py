"""On-the-fly native ensemble: branches on a shared trunk, and a gate that makes an ensemble teacher of them.

    g   = softmax(ReLU(BN(Linear(mean over positions of trunk map))))         (B, N), one share per branch and image
    z_e = sum_i g_i z_i
    L   = sum_i CE(z_i, y) + CE(z_e, y) + w(t) * sum_i KL(i <- e)

w(t) = exp(-5 (1 - min(t / ramp, 1))^2), T = 3. CE(z_e, y) trains the gate, all branches and the trunk; the KLs do not
train the teacher.

Source: Lan, Zhu, Gong, "Knowledge Distillation by On-the-Fly Native Ensemble" (NeurIPS 2018, arXiv:1806.04606) and
its public code, for the gate's layers and for the ramp of 80 in 300 epochs.

Deviation: any number of branches from two up, where the paper has three.
Deviation: its code adds 1e-7 to each of the teacher's probabilities; the KL here is exact without.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import AnsweringTeacher
from codistill.methods.settings import Share


def gated_sum(shares: Tensor, logits: Tensor) -> Tensor:
    """z_e: shares (B, N) and logits (N, B, K) -> (B, K)."""
    return (shares.T[..., None] * logits).sum(dim=0)  # a product and a sum keep full precision under autocast


class Gate(AnsweringTeacher):
    """The ensemble teacher. It reads the trunk's last map, or without a trunk every student's own last map."""

    def __init__(self, shapes: Mapping[str, StudentShape], shared_trunk: bool = True) -> None:
        super().__init__()
        self.students = list(shapes)
        self.shared_trunk = shared_trunk
        if shared_trunk:
            # A student of a single stage has no trunk; the cohort is about to say so.
            channels = shapes[self.students[0]].feature_maps[-2:][0][0]
        else:
            channels = sum(shape.feature_maps[-1][0] for shape in shapes.values())
        self.linear = nn.Linear(channels, len(shapes))
        self.norm = nn.BatchNorm1d(len(shapes))

    def shares(self, outputs: Mapping[str, StudentOutput]) -> Tensor:
        """g (B, N): how much of the answer is each student's; rows sum to one."""
        if self.shared_trunk:
            maps = [outputs[self.students[0]].feature_maps[-2]]
        else:
            maps = [outputs[name].feature_maps[-1] for name in self.students]
        pooled = torch.cat([feature_map.mean(dim=(-2, -1)) for feature_map in maps], dim=-1)
        return F.relu(self.norm(self.linear(pooled))).softmax(dim=-1)

    def answer(self, outputs: Mapping[str, StudentOutput]) -> StudentOutput:
        logits = torch.stack([outputs[name].logits for name in self.students])
        shares = self.shares(outputs)
        return StudentOutput(gated_sum(shares.float(), logits.float()), shares, ())


def one(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 3.0,
    ramp: Share = 0.27,
    shared_trunk: bool = True,
    through_target: bool = False,
) -> Method:
    """On-the-fly native ensemble: a gate over branches of one trunk teaches them (NeurIPS 2018, arXiv:1806.04606).

    temperature: of the KL. ramp: fraction of training over which the links grow to full weight; 0 is none.
    shared_trunk: students share all but their last stage; False gives each a network of its own, of any architecture,
    and the gate reads the pooled last maps of all. through_target: the KLs train the gate and the other students too,
    as in the reimplementation by the authors of OKDDip.
    """
    return Method(
        lessons={"gate": Lesson(Gate(shapes, shared_trunk), {"kl": KL(temperature)}, through_target=through_target)},
        weights={"*/ce": 1.0, "*/gate_kl": Ramp(1.0, over=ramp)},
        shared_trunk=shared_trunk,
    )
