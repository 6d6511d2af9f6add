"""A backbone of stages, one after the other: the shortest way to one, and what the networks of this folder are.

Staged(nn.Sequential(stem, stage1), stage2, stage3, width=256)
"""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from codistill.core.student import Branchable
from codistill.errors import UserError


class InStages(Branchable):
    """What has ``stages`` and a ``head_hidden_size``, and maybe a ``stem`` before them: its feature interface.

    Each stage gives one map, (B, C_in, H_in, W_in) -> (B, C, H, W); the embedding is the mean of the last map. It
    branches before its last stage.
    """

    stages: nn.ModuleList

    def stem(self, x: Tensor) -> Tensor:
        """What comes before the first stage and is no map of its own."""
        return x

    def forward_intermediates(self, x: Tensor, *, output_fmt: str = "NCHW") -> tuple[Tensor, list[Tensor]]:
        """Images (B, 3, H, W) -> the last map, and the maps of all stages."""
        return self.forward_branch(self.forward_trunk(x))

    def share_trunk(self, other: Self) -> None:
        own, theirs = ([*stages.state_dict().values()] for stages in (self.stages[:-1], other.stages[:-1]))
        if [tensor.shape for tensor in own] != [tensor.shape for tensor in theirs]:
            raise UserError("A trunk is shared by networks whose first stages are equal, got two that differ.")
        for number in range(len(self.stages) - 1):
            self.stages[number] = other.stages[number]

    def forward_trunk(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for stage in list(self.stages)[:-1]:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_branch(self, trunk: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        last = self.stages[-1](trunk[-1])
        return last, [*trunk, last]

    def forward_head(self, x: Tensor) -> Tensor:
        """Last map (B, C, H, W) -> embedding (B, C)."""
        return x.mean(dim=(-2, -1))


class Staged(InStages):
    """Stages alone. ``width`` is the number of channels of the last map.

    A stage may not change the map that it is given in place: it is an answer of the stage before. Raises UserError for
    fewer than two stages: methods that share a trunk branch before the last.
    """

    def __init__(self, *stages: nn.Module, width: int) -> None:
        super().__init__()
        if len(stages) < 2:
            raise UserError(f"A backbone in stages has two or more, got {len(stages)}. Divide it.")
        self.head_hidden_size = width
        self.stages = nn.ModuleList(stages)


def initialise(module: nn.Module) -> None:
    """He et al.'s normal initialisation of every convolution, by what goes out of it; biases start from 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
