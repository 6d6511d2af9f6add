"""Fusion of diverse followers into one leader: the followers learn together, the leader from what they add up to.

    followers i    CE(z_i, y) + mean over followers j != i of KL(i <- j) + d * w(t) * [ shift(F_i, F_{i-1}) + S_i ]
    fusion         CE(z_f, y) + KL(f <- mean over followers of z_i),     f fused from detached last maps, as in FFL
    leader l       CE(z_l, y) + KL(l <- f) + a * w(t) * [ AT(F_l, f) + AT(Expand(F_l), concat_i F_i) + S_l ]
    decoders       s * w(t) * (their own losses)

F is a last feature map; AT compares where maps are active (codistill/core/losses/attention.py); Expand has FFL's two
convolutions; S is self-distillation of the earlier maps (``codistill.methods.ffsd_decoders``). The first follower has
neither shift nor S. T = 2, d = 1e-5, a = 10, s = 1000, w(t) ramps up over 5 of 300 epochs. Every target is detached.

    shift(x, y)    = mean over images and positions of (A(x) / |A(x)| - y')^2
    y'             = (|A(y)| / 2 - u) * sign(u - v) + |A(y)| / 2,   u = A(y) / |A(y)|

with v the largest of the least active third of u: where follower i - 1 is passive, y' is u itself, elsewhere
|A(y)| - u, so follower i is drawn to look where its predecessor looks less. Its S is drawn to y + (y' - u) |A(y)| / C,
all C channels of y moved alike.

Source: Li, Lin, Wang, Wu, Tian, Shao, Ji, "Distilling a Powerful Student Model via Online Knowledge Distillation",
TNNLS 2022, arXiv:2103.14473; the shift, Expand and S are those of its public code.
Deviation: the fusion module has the students' weight decay (1e-5 in its public code, where the students have 1e-4).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from codistill.core.batch import Batch, cross_entropy
from codistill.core.losses import KL
from codistill.core.losses.attention import attention_distance, attention_rows
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp, Weight
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import Target, Taught, Teacher
from codistill.errors import unknown
from codistill.methods.ffsd_decoders import SelfDistillation, Source
from codistill.methods.fusion import FeatureFusion, join_maps, separable
from codistill.methods.peer_teachers import Listen, MeanLogits, everybody_else
from codistill.methods.settings import Share


def attention_shift(learner: Tensor, predecessor: Tensor) -> Tensor:
    """shift(learner, predecessor) above, a scalar >= 0. Shapes: (B, C, H, W) and (B, C', H', W')."""
    rows, active = attention_rows(learner, predecessor)
    return (F.normalize(rows, dim=1) - shifted_attention(active)).pow(2).mean()


def shifted_attention(active: Tensor) -> Tensor:
    """A(y) -> y' above: (B, P), one row per image."""
    half = active.norm(dim=1, keepdim=True) / 2  # (B, 1)
    unit = F.normalize(active, dim=1)
    passive = max(1, unit.shape[1] // 3)
    threshold = unit.topk(passive, dim=1, largest=False).values[:, -1:]
    return (half - unit) * torch.sign(unit - threshold) + half


def shifted_map(y: Tensor) -> Tensor:
    """What a follower's shallow maps should fit, of its predecessor's last map: (B, C, H, W) -> the same."""
    active, _ = attention_rows(y, y)
    moved = (shifted_attention(active) - F.normalize(active, dim=1)) * active.norm(dim=1, keepdim=True) / y.shape[1]
    return y + moved.to(y.dtype).unflatten(1, (1, *y.shape[-2:]))


class AttentionShift(Teacher):
    """Draws each follower but the first away from where its predecessor, whose map is detached, is active."""

    def __init__(self, followers: Sequence[str]) -> None:
        super().__init__()
        self.pairs = list(zip(followers[1:], followers[:-1], strict=True))

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        last = {name: output.feature_maps[-1] for name, output in outputs.items()}
        return Taught({}, {name: attention_shift(last[name], last[before].detach()) for name, before in self.pairs})


class LeaderFusion(Teacher):
    """The followers' maps, detached, fused into the leader's teacher, with the attention losses of the leader."""

    answers = True

    def __init__(
        self, shapes: Mapping[str, StudentShape], followers: Sequence[str], leader: str, width: int | None
    ) -> None:
        super().__init__()
        self.followers = list(followers)
        self.leader = leader
        last_maps = [shapes[name].feature_maps[-1] for name in followers]
        self.fusion = FeatureFusion(last_maps, shapes[leader].num_classes, width)
        self.expand = separable(shapes[leader].feature_maps[-1][0], self.fusion.channels)

    def join(self, outputs: Mapping[str, StudentOutput]) -> Tensor:
        """The followers' last maps (B, sum C_i, H, W), detached: nothing here trains a follower."""
        return join_maps([outputs[name].feature_maps[-1] for name in self.followers], self.fusion.grid).detach()

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        joined = self.join(outputs)
        answer = self.fusion(joined)
        leader = outputs[self.leader].feature_maps[-1]
        own = {
            "ce": cross_entropy(answer.logits, batch),
            "leader_attention": attention_distance(leader, answer.feature_maps[-1].detach()),
            "leader_expansion": attention_distance(self.expand(leader), joined),
        }
        return Taught({self.leader: Target(answer.logits[None], answer.logits.new_ones(1))}, own, answer)

    def predict(self, outputs: Mapping[str, StudentOutput]) -> Tensor:
        return self.fusion(self.join(outputs)).logits


def ffsd(
    shapes: Mapping[str, StudentShape],
    *,
    leader: str | None = None,
    temperature: PositiveFloat = 2.0,
    diversity: NonNegativeFloat = 1e-5,
    attention: NonNegativeFloat = 10.0,
    decoders: NonNegativeFloat = 1000.0,
    ramp: Share = 0.017,
    width: PositiveInt | None = None,
) -> Method:
    """Diverse followers fused into the teacher of one leader, the student to deploy (TNNLS 2022, arXiv:2103.14473).

    leader: its name; None is the last student. temperature: of every KL. diversity: weight of the followers' shift of
    attention and self-distillation. attention: weight of the leader's two attention losses and self-distillation.
    decoders: weight of the decoders' own losses; 0 leaves self-distillation out. ramp: fraction of training over which
    these weights grow; the KL has none. width: of the fused map; None is the narrowest follower's. With two students
    there is one follower: mutual learning and diversity are then left out.
    """
    leader = list(shapes)[-1] if leader is None else leader
    if leader not in shapes:
        raise unknown("leader", leader, shapes)
    followers = [name for name in shapes if name != leader]
    kl = KL(temperature)
    lessons: dict[str, Lesson] = {}
    weights: dict[str, Weight] = {"*/ce": 1.0}
    if len(followers) > 1:
        lessons["peers"] = Lesson(Listen(everybody_else(followers)), {"kl": kl})
        lessons["diversity"] = Lesson(AttentionShift(followers), {})
        weights |= {"*/peers_kl": 1.0, "diversity/*": Ramp(diversity, over=ramp)}
    fusion = LeaderFusion(shapes, followers, leader, width)
    lessons["fusion"] = Lesson(fusion, {"kl": kl})
    lessons["ensemble"] = Lesson(MeanLogits({"fusion": followers}), {"kl": kl})
    weights |= {f"{leader}/fusion_kl": 1.0, "fusion/ensemble_kl": 1.0, "fusion/leader_*": Ramp(attention, over=ramp)}
    sources = self_distilled(shapes, followers, leader, fusion) if decoders else {}
    if sources:
        lessons["own"] = Lesson(SelfDistillation({name: shapes[name].feature_maps for name in sources}, sources), {})
        weights["own/*_decoder"] = Ramp(decoders, over=ramp)
        weights |= {
            f"own/{name}_stages": Ramp(attention if name == leader else diversity, over=ramp) for name in sources
        }
    return Method(lessons, weights)


def self_distilled(
    shapes: Mapping[str, StudentShape], followers: Sequence[str], leader: str, fusion: LeaderFusion
) -> dict[str, Source]:
    """The students whose earlier maps are taught, with the deepest map that they should fit."""

    drawn_to: dict[str, tuple[tuple[int, ...], Source]] = {
        name: (shapes[before].feature_maps[-1], partial(_shifted_last_map, before))
        for name, before in zip(followers[1:], followers[:-1], strict=True)
    }
    drawn_to[leader] = ((fusion.fusion.width, *fusion.fusion.grid), partial(_last_map, "fusion"))
    return {
        name: source
        for name, (shape, source) in drawn_to.items()
        if len(shapes[name].feature_maps) > 1 and shapes[name].feature_maps[-1] == shape
    }


# Functions of the module, so that torch.save takes a cohort whole.
def _last_map(name: str, outputs: Mapping[str, StudentOutput]) -> Tensor:
    return outputs[name].feature_maps[-1]


def _shifted_last_map(name: str, outputs: Mapping[str, StudentOutput]) -> Tensor:
    return shifted_map(_last_map(name, outputs))
