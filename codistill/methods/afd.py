"""Adversarial feature-map distillation: each student learns to pass for its predecessor (Chung et al., ICML 2020).

Students stand in a ring; j is the one before i (for two students, the other). F is a last feature map, T_i the
transfer layer that gives F_i the shape of F_j, D_i the discriminator of student i, in (0, 1) at each position:

    L_i   = CE(z_i, y) + KL(i <- j) + w * L_G_i          the student and T_i; D_i is held fixed
    L_G_i = mean of (1 - D_i(T_i(F_i)))^2                                          "generator"
    L_D_i = mean of (1 - D_i(F_j))^2 + mean of D_i(T_i(F_i))^2                     "discriminator": D_i; maps are fixed
    D     = Sigmoid Conv3x3 LeakyReLU BN Conv3x3
    T_i   = BN Conv1x1, averaged to the smaller of the two grids; nothing where F_i and F_j have one shape

Means are over images and positions; T = 3 in the KL. D_i is trained on maps that are cut from the graph, and the
student against a copy of D_i whose weights are cut from it, so that one backward pass gives each its own gradient.

Source: arXiv:2002.01775; it has no public code.
Deviation: one optimizer and one update for all losses. The paper updates twice, once for the adversarial losses at a
much lower learning rate; here the weight ``adversarial`` stands for that, at a value of ours: at weight 1, L_G pulls
at a small residual network about as hard as CE does.
Deviation: T_i is the learner's alone and trained with it. The paper writes a transfer on either side of D_i.
Deviation: the layers' sizes, judging each position by itself, and students that differ in grid are our reading.
"""

from collections.abc import Mapping
from typing import Literal, cast

import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.func import functional_call

from codistill.core.batch import Batch
from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import Taught, Teacher
from codistill.methods.peer_teachers import Listen, everybody_else


def afd(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 3.0,
    adversarial: NonNegativeFloat = 0.1,
    kl_from: Literal["previous", "everybody"] = "previous",
) -> Method:
    """Adversarial feature maps: each student fools a judge of its maps and its peer's (ICML 2020, arXiv:2002.01775).

    temperature: of the KL. adversarial: weight of fooling the discriminator. kl_from: whose predictions more than two
    students imitate: "previous", those of the one before in the ring, or "everybody", the others' on average.
    """
    ring = previous_in_ring(list(shapes))
    speakers = everybody_else(list(shapes)) if kl_from == "everybody" else {i: [j] for i, j in ring.items()}
    return Method(
        lessons={
            "peers": Lesson(Listen(speakers), {"kl": KL(temperature)}),
            "adversarial": Lesson(Adversaries(shapes), {}),
        },
        weights={
            "*/ce": 1.0,
            "*/peers_kl": 1.0,
            "adversarial/*_generator": adversarial,
            "adversarial/*_discriminator": 1.0,
        },
    )


def previous_in_ring(names: list[str]) -> dict[str, str]:
    """Each name with the one before it: ``["a", "b", "c"]`` -> ``{"a": "c", "b": "a", "c": "b"}``."""
    return dict(zip(names, [names[-1], *names[:-1]], strict=True))


def fooling_loss(fake: Tensor) -> Tensor:
    """L_G: D's opinion of the own map, of any shape -> scalar."""
    return (1.0 - fake).square().mean()


def telling_apart_loss(real: Tensor, fake: Tensor) -> Tensor:
    """L_D: D's opinions of the peer's map and of the own map, of any shape -> scalar."""
    return (1.0 - real).square().mean() + fake.square().mean()


class Transfer(nn.Module):
    """T_i: map (B, C_i, H_i, W_i) -> (B, C_j, H, W) on ``grid``."""

    def __init__(self, own: tuple[int, int, int], other: tuple[int, int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        alike = own[0] == other[0]
        self.channels = (
            nn.Identity()
            if alike
            else nn.Sequential(nn.Conv2d(own[0], other[0], 1, bias=False), nn.BatchNorm2d(other[0]))
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.channels(feature_map), self.grid)


class Adversaries(Teacher):
    """Teaches no logits: its losses are L_G and L_D of every student."""

    def __init__(self, shapes: Mapping[str, StudentShape]) -> None:
        super().__init__()
        self.previous = previous_in_ring(list(shapes))
        last = {name: shape.feature_maps[-1] for name, shape in shapes.items()}
        self.grids: dict[str, tuple[int, int]] = {}
        self.transfers = nn.ModuleDict()
        self.discriminators = nn.ModuleDict()
        for i, j in self.previous.items():
            self.grids[i] = (min(last[i][1], last[j][1]), min(last[i][2], last[j][2]))
            self.transfers[i] = Transfer(last[i], last[j], self.grids[i])
            self.discriminators[i] = _discriminator(last[j][0])

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        losses = {}
        for i, j in self.previous.items():
            discriminator = cast(nn.Sequential, self.discriminators[i])
            own = self.transfers[i](outputs[i].feature_maps[-1])
            other = F.adaptive_avg_pool2d(outputs[j].feature_maps[-1], self.grids[i])
            fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
            losses[f"{i}_generator"] = fooling_loss(_opinion(functional_call(discriminator, fixed, (own,))))
            # Each kind of map by itself, or batch normalisation would see both at once here and only one above.
            losses[f"{i}_discriminator"] = telling_apart_loss(
                _opinion(discriminator(other.detach())), _opinion(discriminator(own.detach()))
            )
        return Taught(targets={}, losses=losses)


def _opinion(logits: Tensor) -> Tensor:
    """In single precision: in half, a judge who is sure would be so to the last bit, and wrong, would never learn."""
    return logits.float().sigmoid()


def _discriminator(channels: int) -> nn.Sequential:
    """Map (B, C, H, W) -> how much it looks like the peer's, as logits (B, 1, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, 1, 3, padding=1),
    )
