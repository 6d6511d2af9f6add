"""How far each student can be trusted as a teacher, from its own running cross-entropy.

    c_i <- momentum * c_i + (1 - momentum) * CE(z_i, y)
    w_i  = exp(-sharpness * (c_i - min_j c_j))

The best student has weight 1; one that falls behind teaches less and less, and goes on learning. Our own design:
the paper (SSRN 5217092) names the problem, that a poor student drags the others down, but its abstract gives no
formula. y are the labels that all share, also for a student that is told others on purpose (``Batch.told``).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from codistill.core.batch import Batch, cross_entropy
from codistill.core.student import StudentOutput
from codistill.core.teacher import Taught, Teacher


def reliability_weights(running_ce: Tensor, sharpness: float) -> Tensor:
    """Running cross-entropies (N,) in nats -> weights (N,) in (0, 1]; the formula above.

    >>> reliability_weights(torch.tensor([0.5, 1.5, 0.5]), sharpness=1.0)
    tensor([1.0000, 0.3679, 1.0000])
    """
    return torch.exp(-sharpness * (running_ce - running_ce.min()))


class Reliability(Teacher):
    """Teaches nobody: held first, it listens to how each student does; other teachers ask for its weights.

    sharpness: 0 trusts everybody alike; at 1, a student whose loss is higher by 1 nat counts 0.37.
    momentum: of the running mean; 0.99 remembers about 100 steps.
    """

    running_ce: Tensor  # (N,) nats

    def __init__(self, students: Sequence[str], sharpness: float = 1.0, momentum: float = 0.99) -> None:
        super().__init__()
        self.students = list(students)
        self.sharpness = sharpness
        self.momentum = momentum
        self.register_buffer("running_ce", torch.zeros(len(self.students)))

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        if self.training:
            with torch.no_grad():
                now = [cross_entropy(outputs[name].logits.float(), batch) for name in self.students]
                self.running_ce.lerp_(torch.stack(now), 1.0 - self.momentum)
        return Taught(targets={}, losses={})

    def weights(self) -> dict[str, Tensor]:
        """student -> scalar weight."""
        return dict(zip(self.students, reliability_weights(self.running_ce, self.sharpness).unbind(), strict=True))
