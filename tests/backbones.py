"""Backbones that are not residual networks, to show that a cohort takes any: a plain CNN and a vision transformer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainCNN(nn.Module):
    """Two strided convolutions; other widths, and one stage less than the residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.head_hidden_size = 24
        self.stages = nn.ModuleList([nn.Conv2d(3, 12, 3, 2, 1), nn.Conv2d(12, 24, 3, 2, 1)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(12), nn.BatchNorm2d(24)])

    def forward_intermediates(self, x: Tensor, *, output_fmt: str = "NCHW") -> tuple[Tensor, list[Tensor]]:
        maps = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = F.relu(norm(stage(x)))
            maps.append(x)
        return x, maps

    def forward_head(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1))


class TinyViT(nn.Module):
    """Patches, two transformer blocks with dropout, a class token; its final features are tokens and not a map.

    Without dropout every image is seen by itself alone: there is no batch normalisation.
    """

    def __init__(self, image_size: int, patch: int = 4, width: int = 20, dropout: float = 0.1) -> None:
        super().__init__()
        self.head_hidden_size = width
        self.grid = image_size // patch
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, self.grid**2 + 1, width) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=dropout, batch_first=True) for _ in range(2)
        )

    def forward_intermediates(self, x: Tensor, *, output_fmt: str = "NCHW") -> tuple[Tensor, list[Tensor]]:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(patches), -1, -1), patches], dim=1) + self.position
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        return x, maps

    def forward_head(self, x: Tensor) -> Tensor:
        return x[:, 0]
