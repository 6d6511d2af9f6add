"""Mutual distillation of joint labels on every stage (HSSAKD, its online variant; Yang et al., TNNLS 2022).

Each image is seen under all four quarter turns. Head l of student i reads its stage l and gives q_il (4B, 4K) over
joint labels of class and turn, 4 y + r. With j over the N - 1 others:

    L_i = CE(z_i, y), upright images only
        + mean_j KL(z_i <- z_j), over all four turns                                        "peers"
        + sum_l CE(q_il, 4 y + r) + sum_l mean_j KL(q_il <- q_jl)                           "joint"

T = 3 in every KL, all weights are 1. Students with different numbers of stages are paired from the last stage
backwards, and the mean is over those j that have such a head. The joint heads leave after training. The targets of
q are detached here and not by the cohort, since these are the teacher's own losses.

Sources: arXiv:2109.03075 (TNNLS 2022; both variants), arXiv:2107.13715 (IJCAI 2021; the base, with a fixed teacher).
Deviation: heads are as the rotation task's: depthwise-separable blocks on the early stages and a linear layer on the
embedding, where the public code repeats the backbone's own residual blocks behind every stage, the last one too.
Deviation: the mean over more than one peer is ours; the public code trains pairs, of one architecture.
"""

from collections.abc import Mapping

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from codistill.core.batch import Batch, cross_entropy
from codistill.core.losses import KL
from codistill.core.losses.kl import softened_kl
from codistill.core.method import Lesson, Method
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import Taught, Teacher
from codistill.core.views import QUARTER_TURNS
from codistill.methods.peer_teachers import Listen, everybody_else
from codistill.tasks.heads import StageHead
from codistill.tasks.rotation import joint_labels


def hssakd(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 3.0,
    joint_ce: NonNegativeFloat = 1.0,
    joint_kl: NonNegativeFloat = 1.0,
    kl: NonNegativeFloat = 1.0,
) -> Method:
    """Joint labels of class and turn on every stage, learned from label and peers (TNNLS 2022, arXiv:2109.03075).

    temperature: of every KL. joint_ce, joint_kl: weights of the joint heads' cross-entropy and of the KL between
    students on them. kl: weight of the KL on class logits, over all four turns.
    """
    return Method(
        lessons={
            "peers": Lesson(Listen(everybody_else(list(shapes))), {"kl": KL(temperature)}, views=QUARTER_TURNS),
            "joint": Lesson(JointHeads(shapes, temperature), {}, views=QUARTER_TURNS),
        },
        weights={"*/ce": 1.0, "*/peers_kl": kl, "joint/*_ce": joint_ce, "joint/*_kl": joint_kl},
    )


class StudentHeads(nn.Module):
    """One student's joint heads: the embedding's first, then the stages' from the last but one backwards."""

    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        joint_classes = len(QUARTER_TURNS) * shape.num_classes
        *early, last = shape.feature_maps
        self.embedding = nn.Linear(shape.embedding, joint_classes)
        self.stages = nn.ModuleList(StageHead(stage, last, joint_classes) for stage in early)

    def forward(self, output: StudentOutput) -> list[Tensor]:
        """What the student said about V images -> joint logits (V, 4K) of each head."""
        *early, _ = output.feature_maps
        on_stages = [head(stage) for head, stage in zip(self.stages, early, strict=True)]
        return [self.embedding(output.embedding), *reversed(on_stages)]


class JointHeads(Teacher):
    """Teaches no class logits: its losses are the joint heads' own, for every student."""

    def __init__(self, shapes: Mapping[str, StudentShape], temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.heads = nn.ModuleDict({name: StudentHeads(shape) for name, shape in shapes.items()})

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        upright = batch.first_rows(len(batch.labels) // len(QUARTER_TURNS))
        joint = upright.relabelled(joint_labels)  # turn-major, as the rows are
        said: dict[str, list[Tensor]] = {name: heads(outputs[name]) for name, heads in self.heads.items()}
        losses = {}
        for name, logits in said.items():
            losses[f"{name}_ce"] = torch.stack([cross_entropy(head, joint.told_to(name)) for head in logits]).sum()
            peers = [other for peer, other in said.items() if peer != name]
            losses[f"{name}_kl"] = mutual_kl(logits, peers, self.temperature)
        return Taught(targets={}, losses=losses)


def mutual_kl(heads: list[Tensor], peers: list[list[Tensor]], temperature: float) -> Tensor:
    """sum_l mean_j KL(q_l <- q_jl), from joint logits (V, 4K) of each own head and of each peer's heads -> scalar.

    Heads are paired in order; the mean is over the peers that have such a head.
    """
    losses = []
    for number, own in enumerate(heads):
        targets = [peer[number].detach() for peer in peers if number < len(peer)]
        if targets:
            weights = own.new_full((len(targets),), 1.0 / len(targets))
            losses.append(softened_kl(own, torch.stack(targets), weights, temperature))
    return torch.stack(losses).sum()
