"""Feature fusion learning: one module fuses the students' last maps, and students and module teach each other.

    x    = concat_i F_i                                             on the smallest grid: (B, sum C_i, H, W)
    f    = ReLU BN Conv1x1 ReLU BN DepthwiseConv3x3 (x)             sum C_i -> width
    z_f  = Linear(mean over positions of f)
    L    = sum_i CE(z_i, y) + CE(z_f, y) + w(t) * [ sum_i KL(i <- f) + KL(f <- mean_i z_i) ]

F_i (B, C_i, H_i, W_i) is student i's last feature map, z_i (B, K) its logits, KL(a <- b) has the target b detached and
T^2 = 9 in it, w(t) ramps up over the first 80 of 300 epochs.

Source: Kim, Hyun, Chung, Kwak, "Feature Fusion for Online Mutual Knowledge Distillation", ICPR 2020, arXiv:1904.09058.
Deviation: maps of different grids are averaged down to the smallest one.
Deviation: the fusion module has the students' weight decay (1e-5 in its public code, where the students have 1e-4).
Deviation: no 1e-7 is added to the target probabilities (in the public code they sum to 1 + 1e-7 K).
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from codistill.batch import Batch
from codistill.distill import KL
from codistill.errors import UserError
from codistill.method import Lesson, Method
from codistill.objective import Ramp
from codistill.student import StudentOutput, StudentShape
from codistill.teacher import Target, Taught, Teacher


def separable(channels: int, out: int) -> nn.Sequential:
    """A depthwise 3x3, then a pointwise convolution, each with BN and ReLU: (B, channels, H, W) -> (B, out, H, W)."""
    layers = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layers


def join_maps(feature_maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Maps (B, C_i, H_i, W_i) -> one (B, sum C_i, *grid), each averaged down to the grid."""
    return torch.cat([F.adaptive_avg_pool2d(feature_map, grid) for feature_map in feature_maps], dim=1)


class FeatureFusion(nn.Module):
    """The fusion module with its classifier, for last maps of any shapes (C_i, H_i, W_i).

    width: of the fused map; None is the narrowest student's.
    """

    def __init__(self, last_maps: Sequence[tuple[int, int, int]], num_classes: int, width: int | None = None) -> None:
        super().__init__()
        channels = [size[0] for size in last_maps]
        self.width = min(channels) if width is None else width
        if self.width < 1:
            raise UserError(f"The fused map's width must be at least 1, got {self.width}.")
        self.grid = min(((height, wide) for _, height, wide in last_maps), key=math.prod)
        self.channels = sum(channels)
        self.mix = separable(self.channels, self.width)
        self.classifier = nn.Linear(self.width, num_classes)

    def forward(self, joined: Tensor) -> StudentOutput:
        """Joined maps (B, sum C_i, H, W) -> the module's answer; its only feature map is f (B, width, H, W)."""
        fused = self.mix(joined)
        embedding = fused.mean(dim=(-2, -1))
        return StudentOutput(self.classifier(embedding), embedding, (fused,))


class FusionTeacher(Teacher):
    """The fusion module as everybody's teacher. ``train_students=False`` detaches the maps that it fuses."""

    answers = True

    def __init__(self, shapes: Mapping[str, StudentShape], width: int | None, train_students: bool) -> None:
        super().__init__()
        self.students = list(shapes)
        self.train_students = train_students
        last_maps = [shape.feature_maps[-1] for shape in shapes.values()]
        self.fusion = FeatureFusion(last_maps, next(iter(shapes.values())).num_classes, width)

    def answer(self, outputs: Mapping[str, StudentOutput]) -> StudentOutput:
        """What the module says about the students' last maps."""
        joined = join_maps([outputs[name].feature_maps[-1] for name in self.students], self.fusion.grid)
        return self.fusion(joined if self.train_students else joined.detach())

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        answer = self.answer(outputs)
        target = Target(answer.logits[None], answer.logits.new_ones(1))
        own = {"ce": F.cross_entropy(answer.logits, batch.labels)}
        return Taught({name: target for name in self.students}, own, answer)

    def predict(self, outputs: Mapping[str, StudentOutput]) -> Tensor:
        return self.answer(outputs).logits


class MeanLogits(Teacher):
    """The plain ensemble: the mean of the speakers' logits is the target of one learner."""

    def __init__(self, speakers: Sequence[str], learner: str) -> None:
        super().__init__()
        self.speakers = list(speakers)
        self.learner = learner

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        mean = torch.stack([outputs[name].logits for name in self.speakers]).mean(dim=0)
        return Taught({self.learner: Target(mean[None], mean.new_ones(1))}, losses={})


def ffl(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 3.0,
    ramp: NonNegativeFloat = 0.27,
    train_students: bool = True,
    width: PositiveInt | None = None,
    shared_trunk: bool = False,
) -> Method:
    """Feature fusion learning: fused feature maps teach all and learn from the ensemble (ICPR 2020, arXiv:1904.09058).

    temperature: of every KL. ramp: fraction of training over which the links grow to full weight. train_students: the
    fusion module's own losses (cross-entropy and KL to the ensemble) train the students too, through their maps; False
    detaches the maps. width: of the fused map; None is the narrowest student's. shared_trunk: the students are
    branches of one network, which the papers that compare with it call FFL-S; False: separate networks of any kind.
    """
    kl = KL(temperature)
    return Method(
        lessons={
            "fusion": Lesson(FusionTeacher(shapes, width, train_students), {"kl": kl}),
            "ensemble": Lesson(MeanLogits(list(shapes), "fusion"), {"kl": kl}),
        },
        weights={
            "*/ce": 1.0,
            "*/fusion_kl": Ramp(1.0, over=ramp),
            "fusion/ensemble_kl": Ramp(1.0, over=ramp),
        },
        shared_trunk=shared_trunk,
    )
