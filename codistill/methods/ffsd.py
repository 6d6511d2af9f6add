"""Fusion of diverse followers into one leader: the followers learn together, the leader from what they add up to.

    followers i    CE(z_i, y) + mean over followers j != i of KL(i <- j) + d * w(t) * shift(F_i, F_{i-1})
    fusion         CE(z_f, y) + KL(f <- mean over followers of z_i),     f fused from detached last maps, as in FFL
    leader l       CE(z_l, y) + KL(l <- f) + a * w(t) * [ AT(F_l, f) + AT(Expand(F_l), concat_i F_i) ]

F is a last feature map; AT compares where maps are active (codistill/distill/attention.py); Expand has FFL's two
convolutions. The first follower has no shift. T = 2, d = 1e-5, a = 10, w(t) ramps up over 5 of 300 epochs. Every
target is detached.

    shift(x, y)    = mean over images and positions of (A(x) / |A(x)| - y')^2
    y'             = (|A(y)| / 2 - u) * sign(u - v) + |A(y)| / 2,   u = A(y) / |A(y)|

with v the largest of the least active third of u: where follower i - 1 is passive, y' is u itself, elsewhere
|A(y)| - u, so follower i is drawn to look where its predecessor looks less.

Source: Li, Lin, Wang, Wu, Tian, Shao, Ji, "Distilling a Powerful Student Model via Online Knowledge Distillation",
TNNLS 2022, arXiv:2103.14473; the shift and Expand are those of its public code.
Deviation: without self-distillation, in which decoders of the deepest maps teach the shallower ones.
Deviation: the fusion module has the students' weight decay (1e-5 in its public code, where the students have 1e-4).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from codistill.batch import Batch, cross_entropy
from codistill.distill import KL
from codistill.distill.attention import attention_distance, attention_rows
from codistill.errors import unknown
from codistill.method import Lesson, Method
from codistill.methods.fusion import FeatureFusion, MeanLogits, join_maps, separable
from codistill.methods.listen import Listen, everybody_else
from codistill.objective import Ramp, Weight
from codistill.student import StudentOutput, StudentShape
from codistill.teacher import Target, Taught, Teacher


def attention_shift(learner: Tensor, predecessor: Tensor) -> Tensor:
    """shift(learner, predecessor) above, a scalar >= 0. Shapes: (B, C, H, W) and (B, C', H', W')."""
    rows, active = attention_rows(learner, predecessor)
    half = active.norm(dim=1, keepdim=True) / 2  # (B, 1)
    unit = F.normalize(active, dim=1)
    passive = max(1, unit.shape[1] // 3)
    threshold = unit.topk(passive, dim=1, largest=False).values[:, -1:]
    wanted = (half - unit) * torch.sign(unit - threshold) + half
    return (F.normalize(rows, dim=1) - wanted).pow(2).mean()


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
    ramp: NonNegativeFloat = 0.017,
    width: PositiveInt | None = None,
) -> Method:
    """Diverse followers fused into the teacher of one leader, the student to deploy (TNNLS 2022, arXiv:2103.14473).

    leader: its name; None is the last student. temperature: of every KL. diversity: weight of the shift of attention
    between followers. attention: weight of the leader's two attention losses. ramp: fraction of training over which
    these two weights grow; the KL has none. width: of the fused map; None is the narrowest follower's. With two
    students there is one follower: mutual learning and diversity are then left out.
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
    lessons["fusion"] = Lesson(LeaderFusion(shapes, followers, leader, width), {"kl": kl})
    lessons["ensemble"] = Lesson(MeanLogits(followers, "fusion"), {"kl": kl})
    weights |= {f"{leader}/fusion_kl": 1.0, "fusion/ensemble_kl": 1.0, "fusion/leader_*": Ramp(attention, over=ramp)}
    return Method(lessons, weights)
