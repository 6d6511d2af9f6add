"""Mutual contrastive learning: classes are told apart within and across students (Yang et al., AAAI 2022).

e_i (B, d) are the unit-length projections of student i, and s_ij[a, b] = e_i[a] . e_j[b] / tau compares image a, as i
sees it, with image b, as j sees it. P(a) are the other images of a's class. An image is not compared with itself:

    p_ij[a]   = softmax of s_ij[a, b] over b != a
    C_ij      = mean over anchors a with P(a) not empty of  -1/|P(a)| sum_{b in P(a)} log p_ij[a, b]
    VCL_i     = C_ii                            soft VCL_i = sum_{j != i} KL(p_ii <- p_jj)
    ICL_i     = sum_{j != i} C_ij               soft ICL_i = sum_{j != i} KL(p_ij <- p_ji)
    L         = sum_i CE_i + 0.1 VCL_i + 0.1 ICL_i + 1 soft VCL_i + 1 soft ICL_i

KL is softened by a temperature of its own, 3, and multiplied by its square. Its target is detached, here, since these
are the teacher's own losses. VCL_i and soft VCL_i train student i only; ICL_i and soft ICL_i train j too, whose
projections are what i's are compared with.

Source: arXiv:2104.12565, its supervised version on the classes of a batch, and the public code's settings for CIFAR.
Its sampler puts two images of each class in a batch, so that |P(a)| = 1: ``order=class_pairs``. Any other will do here.
Deviation: an image alone of its class in the batch is left out as an anchor, where the public code divides by zero.
Deviation: with ``own_image=False`` the soft forms leave out the image itself, as VCL and ICL do; the public code for
CIFAR keeps it in the soft forms.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from codistill.core.batch import Batch
from codistill.core.losses.contrastive import contrast, without_diagonal
from codistill.core.losses.kl import softened_kl
from codistill.core.method import Lesson, Method
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import Taught, Teacher
from codistill.tasks.heads import full_precision


def mcl(
    shapes: Mapping[str, StudentShape],
    *,
    tau: PositiveFloat = 0.1,
    width: PositiveInt = 128,
    soft_temperature: PositiveFloat = 3.0,
    own_image: bool = False,
    vcl: NonNegativeFloat = 0.1,
    icl: NonNegativeFloat = 0.1,
    soft_vcl: NonNegativeFloat = 1.0,
    soft_icl: NonNegativeFloat = 1.0,
) -> Method:
    """Mutual contrastive learning: classes are told apart within and across students (AAAI 2022, arXiv:2104.12565).

    tau: divides the cosines. width: of the projections. soft_temperature: of the KL between similarity distributions,
    after tau. own_image: whether those distributions also compare an image with itself. vcl, icl, soft_vcl, soft_icl:
    weights of the contrast within a student, between students, and of imitating the others' distribution of each kind.
    """
    return Method(
        lessons={"contrast": Lesson(MutualContrast(shapes, tau, width, soft_temperature, own_image), {})},
        weights={
            "*/ce": 1.0,
            "contrast/*_vcl": vcl,
            "contrast/*_icl": icl,
            "contrast/*_vcl_soft": soft_vcl,
            "contrast/*_icl_soft": soft_icl,
        },
    )


def soft_contrast(similarity: Tensor, others: Tensor, temperature: float, own_image: bool = False) -> Tensor:
    """sum_m KL(p <- p_m), from similarities (B, B) and M targets (M, B, B) -> scalar."""
    if not own_image:
        similarity, others = without_diagonal(similarity), without_diagonal(others)
    return softened_kl(similarity, others, others.new_ones(len(others)), temperature)


class MutualContrast(Teacher):
    """Teaches no logits: its losses are the four of every student, through projections that it owns."""

    one_label = True

    def __init__(
        self, shapes: Mapping[str, StudentShape], tau: float, width: int, soft_temperature: float, own_image: bool
    ) -> None:
        super().__init__()
        self.tau = tau
        self.soft_temperature = soft_temperature
        self.own_image = own_image
        self.projections = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(shape.embedding, width), nn.ReLU(inplace=True), nn.Linear(width, width))
                for name, shape in shapes.items()
            }
        )

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        e = {n: F.normalize(project(outputs[n].embedding).float(), dim=1) for n, project in self.projections.items()}
        with full_precision(batch.images.device):
            s = {(i, j): e[i] @ e[j].T / self.tau for i in e for j in e}
        losses = {}
        for i in e:
            peers = [j for j in e if j != i]
            labels = batch.told_to(i).labels
            losses[f"{i}_vcl"] = contrast(s[i, i], labels)
            losses[f"{i}_icl"] = torch.stack([contrast(s[i, j], labels) for j in peers]).sum()
            losses[f"{i}_vcl_soft"] = self._imitate(s[i, i], [s[j, j] for j in peers])
            losses[f"{i}_icl_soft"] = torch.stack([self._imitate(s[i, j], [s[j, i]]) for j in peers]).sum()
        return Taught(targets={}, losses=losses)

    def _imitate(self, similarity: Tensor, others: list[Tensor]) -> Tensor:
        return soft_contrast(similarity, torch.stack(others).detach(), self.soft_temperature, self.own_image)
