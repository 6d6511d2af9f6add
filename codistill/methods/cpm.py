"""The Collaborative Processing Module: an online teacher that fuses what the students' features have of their own.

    tokens_i = LayerNorm(Project_i(Pool(F_i)))      averaged to the common grid, 1x1 convolution to width d: (B, H*W, d)
    seen_i   = mean over j != i of w_j * Q_j tokens_j                              what the others ask for
    s_i      = a_i * tokens_i + b_i * Attend(query = seen_i, key = K_i tokens_i, value = V_i tokens_i)
    h_i      = c_i * s_i + e_i * MLP(LayerNorm(s_i))                               a, b, c, e learnable scalars
    mixed    = ReLU BN DepthwiseConv3x3 (concat_i h_i)
    fused    = ReLU BN Conv1x1 (w_i * mixed_i for each student's share i of the channels)
    z_t      = Linear(mean over positions of fused)

The common grid is the smallest of the students' last maps, with at most ``grid`` positions on a side: attention costs
the square of the positions, and on 16x16 of them the module took as long as the students. Attention runs over spatial
positions, several heads. w_i is the students' reliability (1 for the best). It enters after the first batch
normalisation, which would undo any scale put in before it.

Source: the paper (SSRN 5217092) gives the module's purpose in its abstract, not its formulas. Fusion by depthwise
and pointwise convolution is FFL's (Kim et al., ICPR 2020, arXiv:1904.09058); the rest is our reading.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import AnsweringTeacher
from codistill.errors import UserError
from codistill.methods.reliability import Reliability


def others_mean(values: Tensor) -> Tensor:
    """For each i the mean of all other entries: (N, ...) -> (N, ...), N >= 2."""
    whole = values.float()  # in half precision the difference would lose a small entry beside large ones
    return ((whole.sum(dim=0, keepdim=True) - whole) / (len(values) - 1)).to(values.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention over positions: (B, P, d) each -> (B, P, d), without an output projection."""

    def split(x: Tensor) -> Tensor:  # (B, P, d) -> (B, heads, P, d / heads)
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    attended = F.scaled_dot_product_attention(split(query), split(key), split(value))
    return attended.transpose(1, 2).flatten(-2)


class Branch(nn.Module):
    """One student's own part of the module."""

    def __init__(self, channels: int, width: int, grid: tuple[int, int], mlp_ratio: float) -> None:
        super().__init__()
        self.grid = grid
        self.project = nn.Conv2d(channels, width, 1, bias=False)
        self.token_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        hidden = round(mlp_ratio * width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.scales = nn.Parameter(torch.ones(4))  # a, b, c, e

    def tokens(self, feature_map: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, P, d) on the common grid of P positions."""
        projected = self.project(F.adaptive_avg_pool2d(feature_map, self.grid))
        return self.token_norm(projected.flatten(2).transpose(1, 2))

    def forward(self, tokens: Tensor, seen: Tensor, heads: int) -> Tensor:
        """Own tokens and what the others ask for, (B, P, d) each -> h_i (B, P, d)."""
        a, b, c, e = self.scales.unbind()
        key, value = self.key_value(tokens).chunk(2, dim=-1)
        s = a * tokens + b * attend(seen, key, value, heads)
        return c * s + e * self.mlp(s)


class Mixed(NamedTuple):
    """What the module makes of the students' maps, before it fuses them."""

    tokens: dict[str, Tensor]  # of each student: (B, P, d)
    seen: Tensor  # (N, B, P, d) what the others ask each student for
    trust: Tensor  # (N,)
    mixed: Tensor  # (B, N * d, H, W) each student's share of the channels, weighed by its trust


class CollaborativeProcessing(AnsweringTeacher):
    """The module above, for two students or more of any architecture.

    width: d; None is the narrowest student's last width. grid: positions on a side at most; None sets no limit.
    train_students: whether the module's own losses train the students too, through their features (True: FFL's reading;
    False: FFSD's).
    """

    def __init__(
        self,
        shapes: Mapping[str, StudentShape],
        *,
        width: int | None = None,
        heads: int = 4,
        mlp_ratio: float = 1.0,
        grid: int | None = 2,
        train_students: bool = True,
        reliability: Reliability | None = None,
    ) -> None:
        super().__init__()
        last_maps = [shape.feature_maps[-1] for shape in shapes.values()]
        narrowest = min(channels for channels, _, _ in last_maps)
        self.width = narrowest // heads * heads if width is None else width
        if self.width < 1 or self.width % heads:
            raise UserError(f"The CPM's width must be a positive multiple of its {heads} heads, got {self.width}.")
        self.students = list(shapes)
        self.heads = heads
        self.train_students = train_students
        self.reliability = reliability
        height, wide = min(((height, wide) for _, height, wide in last_maps), key=math.prod)
        self.grid = (height, wide) if grid is None else (min(height, grid), min(wide, grid))
        self.branches = nn.ModuleDict(
            {
                name: Branch(shape.feature_maps[-1][0], self.width, self.grid, mlp_ratio)
                for name, shape in shapes.items()
            }
        )
        joined = len(shapes) * self.width
        self.depthwise = nn.Sequential(
            nn.Conv2d(joined, joined, 3, padding=1, groups=joined, bias=False), nn.BatchNorm2d(joined), nn.ReLU()
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(joined, self.width, 1, bias=False), nn.BatchNorm2d(self.width), nn.ReLU()
        )
        self.classifier = nn.Linear(self.width, next(iter(shapes.values())).num_classes)

    def answer(self, outputs: Mapping[str, StudentOutput]) -> StudentOutput:
        """The students' last maps -> the module's own answer; its feature map is ``fused`` (B, d, H, W)."""
        fused = self.pointwise(self.mix(outputs).mixed)
        embedding = fused.mean(dim=(-2, -1))
        return StudentOutput(self.classifier(embedding), embedding, (fused,))

    def mix(self, outputs: Mapping[str, StudentOutput]) -> Mixed:
        """All but the fusion."""
        maps = {name: outputs[name].feature_maps[-1] for name in self.students}
        if not self.train_students:
            maps = {name: feature_map.detach() for name, feature_map in maps.items()}
        trust = self._trust(next(iter(maps.values())))  # (N,)
        branches = {name: cast(Branch, self.branches[name]) for name in self.students}
        tokens = {name: branch.tokens(maps[name]) for name, branch in branches.items()}
        queries = torch.stack([branch.query(tokens[name]) for name, branch in branches.items()])
        seen = others_mean(trust.view(-1, 1, 1, 1) * queries)  # (N, B, P, d)
        improved = [branch(tokens[name], seen[i], self.heads) for i, (name, branch) in enumerate(branches.items())]
        joined = torch.cat(improved, dim=-1).transpose(1, 2).unflatten(2, self.grid)  # (B, N * d, H, W)
        mixed = self.depthwise(joined) * trust.repeat_interleave(self.width).view(1, -1, 1, 1)
        return Mixed(tokens, seen, trust, mixed)

    def _trust(self, like: Tensor) -> Tensor:
        if self.reliability is None:
            return like.new_ones(len(self.students))
        weights = self.reliability.weights()
        return torch.stack([weights[name] for name in self.students]).to(like.dtype)
