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

from collections.abc import Mapping

from pydantic import PositiveFloat, PositiveInt

from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import AnsweringTeacher
from codistill.methods.fusion import FeatureFusion, join_maps
from codistill.methods.peer_teachers import MeanLogits
from codistill.methods.settings import Share


class FusionTeacher(AnsweringTeacher):
    """The fusion module as everybody's teacher. ``train_students=False`` detaches the maps that it fuses."""

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


def ffl(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 3.0,
    ramp: Share = 0.27,
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
            "ensemble": Lesson(MeanLogits({"fusion": list(shapes)}), {"kl": kl}),
        },
        weights={
            "*/ce": 1.0,
            "*/fusion_kl": Ramp(1.0, over=ramp),
            "fusion/ensemble_kl": Ramp(1.0, over=ramp),
        },
        shared_trunk=shared_trunk,
    )
