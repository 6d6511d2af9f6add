"""Which permutation of its tiles does a shuffled image show (Noroozi and Favaro, ECCV 2016).

Each image is cut into g x g tiles and shuffled by one of P permutations, drawn anew each time it is shown. A linear
head on the embedding tells which:

    loss = cross-entropy of the permutation among P, mean over the B shuffled images

g = 2: all P = 24. g = 3: P = 30, far from each other in Hamming distance (at least 7 of 9 places differ).

Source: arXiv:1603.09246. Deviation: the student sees the shuffled image whole and without gaps between tiles, as in
Carlucci et al. (CVPR 2019, arXiv:1903.06864), who use P = 30 too, where the paper shows each tile by itself to one
network; permutations are chosen by their smallest distance to those already chosen, where the paper takes the sum.
"""

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from codistill.core.batch import Batch
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import JIGSAWS, which_jigsaw


class Jigsaw(Task):
    """Tell by which permutation the tiles were shuffled.

    grid: 2 for 2x2 tiles and 24 permutations, 3 for 3x3 tiles and 30. Where it does not divide the image's size, the
    border left over is blanked. It runs on a quarter of each batch by default, as it was measured
    (docs/results.md).
    """

    fraction = 0.25

    def __init__(self, shape: StudentShape, *, grid: Literal[2, 3] = 2) -> None:
        super().__init__()
        self.grid = grid
        self.views = (f"jigsaw{grid}",)
        self.head = nn.Linear(shape.embedding, len(JIGSAWS[grid]))

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        (view,) = self.views
        return F.cross_entropy(self.head(seen[view].embedding), which_jigsaw(batch.draws, self.grid))
