"""Joint label of class and quarter turn, on the last stage or on every stage (SLA, Lee et al., ICML 2020).

Each image is seen under all four quarter turns r = 0..3. A head classifies the pair (class y, turn r) as one of
4K joint labels, which keeps the class features from becoming invariant to the turn:

    joint label = 4 y + r
    loss        = sum over heads of the cross-entropy, mean over 4B images of the B that are turned

Sources: arXiv:1910.05872 (joint label); arXiv:2107.13715 and 2109.03075 (a head on every stage).
Deviation: the blocks that bring an early stage to the last grid are depthwise-separable, about a tenth of the
size of the residual blocks of 2107.13715, to keep training-only parameters below the students' own.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from codistill.core.batch import Batch, cross_entropy
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import QUARTER_TURNS
from codistill.tasks.heads import StageHead


def joint_labels(labels: Tensor, turns: int = 4) -> Tensor:
    """Labels (B,) -> joint labels (turns * B,), turn-major: all images at turn 0, then all at turn 1, ...

    >>> joint_labels(torch.tensor([0, 9]))
    tensor([ 0, 36,  1, 37,  2, 38,  3, 39])
    """
    turn = torch.arange(turns, device=labels.device)
    return (turns * labels[None, :] + turn[:, None]).reshape(-1)


class JointLabel(Task):
    """Joint label of class and transformation, for any P transformations: P y + p in place of 4 y + r.

    looks: the view that shows each transformation, the clean one first. hierarchical: heads on every stage or on the
    embedding only.
    """

    def __init__(self, shape: StudentShape, looks: tuple[str, ...], hierarchical: bool) -> None:
        super().__init__()
        self.looks = looks
        self.views = looks[1:]
        joint_classes = len(looks) * shape.num_classes
        *early, last = shape.feature_maps
        self.stage_heads = nn.ModuleList(StageHead(stage, last, joint_classes) for stage in early if hierarchical)
        self.head = nn.Linear(shape.embedding, joint_classes)

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        joint = batch.relabelled(lambda labels: joint_labels(labels, len(self.looks)))
        embeddings = torch.cat([seen[view].embedding for view in self.looks])
        loss = cross_entropy(self.head(embeddings), joint)
        for stage, head in enumerate(self.stage_heads):
            maps = torch.cat([seen[view].feature_maps[stage] for view in self.looks])
            loss = loss + cross_entropy(head(maps), joint)
        return loss


class Rotation(JointLabel):
    """Joint label of class and quarter turn.

    hierarchical: heads on every stage (True) or on the embedding only (False). It runs on a quarter of each batch by
    default: the time that this saves is better spent on more epochs (docs/results.md). SLA turns all images.
    """

    fraction = 0.25

    def __init__(self, shape: StudentShape, *, hierarchical: bool = True) -> None:
        super().__init__(shape, QUARTER_TURNS, hierarchical)
