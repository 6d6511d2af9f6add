"""FFSD's self-distillation: a decoder per student learns what its shallow maps look like, given its deepest one.

    G_s = ReLU BN ConvTranspose3x3 (G_{s+1}),  from G_last back to the first stage

    decoder    sum over earlier stages s of  M(G_s, F_s) + AT(G_s, F_s),      G_last = F_last, both detached
    student    sum over earlier stages s of  AT(F_s, G_s'),                   G'_last = what its deepest map is drawn to

AT compares where maps are active (codistill/core/losses/attention.py), M whole maps, each of length 1. A student's
shallow maps are so taught to fit the deepest map that it should have: for a follower the predecessor's with its
activity shifted, for the leader the fused one. The decoder teaches as it is in evaluation, and is not trained by that.

Source: arXiv:2103.14473 with its public code, as ``codistill.methods.ffsd``, which has the weights.
Deviation: decoders are trained by the cohort's optimizer, not by an Adam of their own.
Deviation: a student whose deepest map has another shape than the one that it is drawn to has no self-distillation; the
public code has students of one architecture. Where grids do not divide each other, a decoded map is averaged down.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.core.batch import Batch
from codistill.core.losses.attention import attention_distance
from codistill.core.student import StudentOutput
from codistill.core.teacher import Taught, Teacher

MapShape = tuple[int, int, int]  # channels, height, width
Source = Callable[[Mapping[str, StudentOutput]], Tensor]  # the deepest map that a student is drawn to


def map_distance(learner: Tensor, target: Tensor) -> Tensor:
    """M above: the mean square difference of two maps (B, C, H, W), each of length 1 per image. A scalar."""
    one, other = (F.normalize(feature_map.float().flatten(1), dim=1) for feature_map in (learner, target))
    return (one - other).pow(2).mean()


class Up(nn.Module):
    """One stage back: (B, *deep) -> (B, *shallow)."""

    def __init__(self, deep: MapShape, shallow: MapShape) -> None:
        super().__init__()
        self.grid = shallow[1:]
        factor = max(1, *(-(-large // small) for large, small in zip(shallow[1:], deep[1:], strict=True)))
        self.convolution = nn.ConvTranspose2d(
            deep[0], shallow[0], 3, stride=factor, padding=1, output_padding=factor - 1, bias=False
        )
        self.norm = nn.BatchNorm2d(shallow[0])

    def forward(self, x: Tensor, frozen: bool) -> Tensor:
        """``frozen``: normalise with the running statistics, as in evaluation, and leave them alone."""
        x = F.adaptive_avg_pool2d(self.convolution(x), self.grid)
        if frozen:
            norm = self.norm
            return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps))
        return F.relu(self.norm(x))


class Decoder(nn.Module):
    """From one student's deepest map back to its first."""

    def __init__(self, feature_maps: Sequence[MapShape]) -> None:
        super().__init__()
        self.ups = nn.ModuleList(Up(deep, shallow) for deep, shallow in pairwise(reversed(feature_maps)))

    def forward(self, deepest: Tensor, frozen: bool = False) -> list[Tensor]:
        """The maps of the earlier stages, first stage first."""
        decoded = []
        for up in self.ups:
            deepest = up(deepest, frozen)
            decoded.append(deepest)
        return decoded[::-1]


class SelfDistillation(Teacher):
    """Teaches no logits: its losses are the decoders' own and those of the students' earlier stages.

    feature_maps: of each student, two or more. sources: what each is drawn to; a map of the shape of its last.
    """

    def __init__(self, feature_maps: Mapping[str, Sequence[MapShape]], sources: Mapping[str, Source]) -> None:
        super().__init__()
        self.sources = dict(sources)
        self.decoders = nn.ModuleDict({name: Decoder(feature_maps[name]) for name in sources})

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        losses = {}
        for name, decoder in self.decoders.items():
            *early, last = outputs[name].feature_maps
            # Before the decoder sees this batch's statistics. Detached, and not without gradients: some versions of
            # PyTorch keep the half-precision copies of weights that autocast made so, and then train none of them.
            wanted = [stage.detach() for stage in decoder(self.sources[name](outputs).detach(), frozen=True)]
            pairs = zip(early, wanted, strict=True)
            losses[f"{name}_stages"] = torch.stack([attention_distance(*pair) for pair in pairs]).sum()
            found = zip(decoder(last.detach()), [stage.detach() for stage in early], strict=True)
            losses[f"{name}_decoder"] = torch.stack(
                [map_distance(*pair) + attention_distance(*pair) for pair in found]
            ).sum()
        return Taught({}, losses)
