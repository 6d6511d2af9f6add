"""Joint label of class and quarter turn, on the last stage or on every stage (SLA, Lee et al., ICML 2020).

Each image is seen under all four quarter turns r = 0..3. A head classifies the pair (class y, turn r) as one of
4K joint labels, which keeps the class features from becoming invariant to the turn:

    joint label = 4 y + r
    loss        = sum over heads of the cross-entropy, mean over the 4B images

Sources: arXiv:1910.05872 (joint label); arXiv:2107.13715 and 2109.03075 (a head on every stage).
Deviation: the blocks that bring an early stage to the last grid are depthwise-separable, about a tenth of the
size of the residual blocks of 2107.13715, to keep training-only parameters below the students' own.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.batch import Batch
from codistill.student import StudentOutput, StudentShape
from codistill.tasks.heads import StageHead
from codistill.tasks.task import Task
from codistill.views import QUARTER_TURNS


def joint_labels(labels: Tensor, turns: int = 4) -> Tensor:
    """Labels (B,) -> joint labels (turns * B,), turn-major: all images at turn 0, then all at turn 1, ..."""
    turn = torch.arange(turns, device=labels.device)
    return (turns * labels[None, :] + turn[:, None]).reshape(-1)


class Rotation(Task):
    """Joint label of class and quarter turn.

    hierarchical: heads on every stage (True) or on the embedding only (False).
    """

    views = QUARTER_TURNS[1:]

    def __init__(self, shape: StudentShape, *, hierarchical: bool = True) -> None:
        super().__init__()
        joint_classes = len(QUARTER_TURNS) * shape.num_classes
        *early, last = shape.feature_maps
        self.stage_heads = nn.ModuleList(StageHead(stage, last, joint_classes) for stage in early if hierarchical)
        self.head = nn.Linear(shape.embedding, joint_classes)

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        labels = joint_labels(batch.labels)
        embeddings = torch.cat([seen[view].embedding for view in QUARTER_TURNS])
        loss = F.cross_entropy(self.head(embeddings), labels)
        for stage, head in enumerate(self.stage_heads):
            maps = torch.cat([seen[view].feature_maps[stage] for view in QUARTER_TURNS])
            loss = loss + F.cross_entropy(head(maps), labels)
        return loss
