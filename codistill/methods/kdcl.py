"""Knowledge distillation via collaborative learning: all students learn from one ensemble of their logits (KDCL).

    L_i = CE(z_i, y) + KL(i <- t),      KL(i <- t) = T^2 * KL(softmax(z_t / T) || softmax(z_i / T)),  z_t detached

    naive     z_t = z_k,  k = argmin_i CE(z_i, y)
    linear    z_t = sum_i a_i z_i,  a = argmin CE(sum_i a_i z_i, y)  over a_i >= 0, sum_i a_i = 1
    minlogit  z_t[c] = min_i (z_i[c] - z_i[y])  for each class c
    general   z_t = sum_i w_i z_i,  w = C^-1 1 / (1' C^-1 1),  C_ij = mean over images of (p_i - y) . (p_j - y)

z_i (K,) are student i's logits for one image, p_i = softmax(z_i), y the label, one-hot where it meets p. Each student
sees an augmentation of its own of that image, so that the target also teaches invariance to augmentation.

Source: Guo et al., "Online Knowledge Distillation via Collaborative Learning", CVPR 2020 (not on arXiv). We
found no code of the authors; a public reimplementation takes the plain mean of the logits, which is none of these four.

Deviation: linear stops after a fixed number of steps of accelerated exponentiated gradient (Tseng 2008) from equal
weights. With R the largest range over classes of any z_i - mean_j z_j, the cross-entropy of its target is above the
optimum by at most R^2 log N / (steps + 1)^2.
Deviation: general estimates C on training batches, as a running mean over those before the present one, where the
paper holds out a part of the training images and measures after each epoch. On images learned by heart it trusts
those who overfit. ``ridge`` times C's mean diagonal is added to its diagonal, or alike students would get
unlimited weights of opposite sign.
The paper derives w for a mixture of probabilities. We read it as mixing logits, like linear: a weight may be negative,
and the mixture of logits is a distribution all the same.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import Target, Taught, Teacher
from codistill.methods.settings import Decay

Ensemble = Literal["naive", "linear", "minlogit", "general"]
Choice = Literal["image", "batch"]


def naive(logits: Tensor, labels: Tensor, choose_per: str = "image") -> Tensor:
    """The logits of the student with the lowest cross-entropy: (N, B, K), labels (B,) -> (B, K)."""
    students, size, _ = logits.shape
    losses = F.cross_entropy(logits.flatten(0, 1), labels.repeat(students), reduction="none").view(-1, size)
    if choose_per == "batch":
        losses = losses.mean(dim=1, keepdim=True).expand(-1, size)
    return logits.take_along_dim(losses.argmin(dim=0).view(1, -1, 1), dim=0)[0]


def linear_weights(logits: Tensor, labels: Tensor, steps: int = 20, choose_per: str = "image") -> Tensor:
    """Convex weights that lower the mixture's cross-entropy: (N, B, K), labels (B,) -> (N, B), summing to 1 over N.

    Cross-entropy is convex in the weights, its curvature in the 1-norm at most R^2 / 4: steps are the inverse of that.
    """
    mean = logits.mean(dim=0)
    own = logits - mean  # what all students share moves no weight, and would only make the steps smaller
    curvature = ((own.amax(dim=2) - own.amin(dim=2)) ** 2 / 4).amax(dim=0)  # (B,)
    if choose_per == "batch":
        curvature = curvature.mean()
    label = F.one_hot(labels, logits.shape[2])
    weights = torch.full_like(own[:, :, 0], 1 / len(logits))
    log_ahead = weights.log()
    for step in range(steps):
        pull = 2 / (step + 2)
        between = weights.lerp(log_ahead.exp(), pull)
        mixture = mean + (between.unsqueeze(2) * own).sum(dim=0)
        gradient = ((mixture.softmax(dim=1) - label) * own).sum(dim=2)  # (N, B)
        if choose_per == "batch":
            gradient = gradient.mean(dim=1, keepdim=True)
        # The floor is for students that agree: any weights will do, but no division by zero.
        log_ahead = (log_ahead - gradient / (pull * curvature.clamp(min=1e-3))).log_softmax(dim=0)
        weights = weights.lerp(log_ahead.exp(), pull)
    return weights


def minlogit(logits: Tensor, labels: Tensor) -> Tensor:
    """For each class the least of z - z_y: (N, B, K), labels (B,) -> (B, K). No student's cross-entropy is lower."""
    return (logits - logits.take_along_dim(labels.view(1, -1, 1), dim=2)).amin(dim=0)


def error_covariance(logits: Tensor, labels: Tensor) -> Tensor:
    """C of this batch, uncentred: (N, B, K), labels (B,) -> (N, N), entries of at most 2 in size."""
    errors = logits.softmax(dim=2) - F.one_hot(labels, logits.shape[2])
    return (errors.unsqueeze(0) * errors.unsqueeze(1)).sum(dim=3).mean(dim=2)


def general_weights(covariance: Tensor, ridge: float) -> Tensor:
    """w above for C (N, N) -> (N,), summing to 1; equal weights where C is zero."""
    ones = torch.ones_like(covariance[0])
    regular = covariance + torch.diag(ones * (ridge * covariance.diagonal().mean() + 1e-8))
    solution = torch.linalg.solve_ex(regular, ones)[0]  # solve() would wait for the device to check for errors
    return solution / solution.sum()


class CollaborativeEnsemble(Teacher):
    """One target for all students, from all their logits and the labels. Settings as of ``kdcl``."""

    one_label = True

    covariance: Tensor  # (N, N) running mean of C, zero before the first batch

    def __init__(
        self,
        shapes: Mapping[str, StudentShape],
        ensemble: str,
        choose_per: str,
        steps: int,
        ridge: float,
        memory: float,
    ) -> None:
        super().__init__()
        self.students = list(shapes)
        self.ensemble = ensemble
        self.choose_per = choose_per
        self.steps = steps
        self.ridge = ridge
        self.memory = memory
        self.register_buffer("covariance", torch.zeros(len(self.students), len(self.students)))

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        logits = torch.stack([outputs[name].logits for name in self.students]).float()
        target = Target(self.fuse(logits, batch.labels)[None], logits.new_ones(1))
        return Taught(dict.fromkeys(self.students, target), losses={})

    def fuse(self, logits: Tensor, labels: Tensor) -> Tensor:
        """z_t: (N, B, K), labels (B,) -> (B, K)."""
        if self.ensemble == "naive":
            return naive(logits, labels, self.choose_per)
        if self.ensemble == "minlogit":
            return minlogit(logits, labels)
        with torch.no_grad():
            if self.ensemble == "linear":
                weights = linear_weights(logits, labels, self.steps, self.choose_per)
            else:
                # Weights first: this batch's labels have no say in the weights of its own target.
                weights = general_weights(self.covariance, self.ridge).unsqueeze(1)
                if self.training:
                    self.covariance.lerp_(error_covariance(logits, labels), 1.0 - self.memory)
        return (weights.unsqueeze(2) * logits).sum(dim=0)


def kdcl(
    shapes: Mapping[str, StudentShape],
    *,
    ensemble: Ensemble = "minlogit",
    temperature: PositiveFloat = 2.0,
    own_augmentations: bool = True,
    choose_per: Choice = "image",
    steps: PositiveInt = 20,
    ridge: PositiveFloat = 0.1,
    memory: Decay = 0.99,
) -> Method:
    """Collaborative learning: one soft target for all, ensembled from all students' logits (KDCL, CVPR 2020, no arXiv).

    ensemble: how the target is made. The paper has no single winner; minlogit is the default because it needs neither
    a solver nor held-out images, is therefore exactly the paper's, and is beaten by no student on any image.
    temperature: of the KL. own_augmentations: each student sees its own augmentation of an image, as in the paper;
    False shows all of them the same. choose_per: naive chooses its student, and linear its weights, for each "image",
    as the paper's formulas read, or once for the whole "batch". steps: of the solver of linear. ridge: added to the
    error covariance of general, as a fraction of its mean diagonal. memory: of the running error covariance of
    general; 0.99 remembers about 100 steps.
    """
    teacher = CollaborativeEnsemble(shapes, ensemble, choose_per, steps, ridge, memory)
    return Method(
        lessons={"ensemble": Lesson(teacher, {"kl": KL(temperature)})},
        weights={"*/ce": 1.0, "*/ensemble_kl": 1.0},
        own_augmentations=own_augmentations,
    )
