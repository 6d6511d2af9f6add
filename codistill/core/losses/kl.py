"""Softened Kullback-Leibler divergence (Hinton, Vinyals, Dean 2015, arXiv:1503.02531).

    KL(a <- b) = T^2 * sum_k softmax(b/T)_k * (log softmax(b/T)_k - log softmax(a/T)_k), mean over the batch

T^2 keeps the gradient's size independent of the temperature. The mean is over images, not over classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from codistill.core.losses.base import Distill
from codistill.core.student import StudentOutput
from codistill.core.teacher import Target


def softened_kl(logits: Tensor, targets: Tensor, weights: Tensor, temperature: float = 1.0) -> Tensor:
    """sum_m weights_m * KL(logits <- targets_m), a scalar.

    Shapes: logits (B, K), targets (M, B, K), weights (M,).

    >>> logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([[[0.0, 2.0]]])  # one image, one teacher
    >>> softened_kl(logits, target, torch.ones(1))
    tensor(1.5232)
    >>> softened_kl(logits, logits[None], torch.ones(1))
    tensor(0.)
    """
    learner = F.log_softmax(logits.float() / temperature, dim=-1)
    teachers = F.log_softmax(targets.float() / temperature, dim=-1)
    per_teacher = (teachers.exp() * (teachers - learner)).sum(dim=-1).mean(dim=-1)  # (M,)
    return temperature**2 * torch.dot(weights.to(per_teacher.dtype), per_teacher)


class KL(Distill):
    """KL(learner <- target) at one temperature. See the formula above."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, output: StudentOutput, target: Target) -> Tensor:
        return softened_kl(output.logits, target.logits, target.weights, self.temperature)
