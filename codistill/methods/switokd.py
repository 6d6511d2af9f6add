"""Switchable online distillation: the better network waits while it is too far ahead to be imitated (SwitOKD).

    d_i   = mean over images of ||p_i - y||_1                        how far student i is from the labels
    G_ts  = mean over images of ||p_t - p_s||_1                      the gap between a teacher and its student
    delta = d_s - exp(-d_t / (d_s + d_t)) * d_t                      the gap that is still bridged
    expert_ts = [G_ts > delta and d_t < d_s]                         else the pair is in learning mode

    L_i = scale_i * ( CE(z_i, y) + sum over j != i of (1 - expert_ij) * KL(i <- j) )
    scale_i = 0 if i has students and is in expert mode with each of them, else 1

scale_i acts on gradients only: the losses of a waiting student are logged as they are, alone and within the objective.
p_i = softmax(z_i / T), y the one-hot label. In learning mode both of a pair imitate each other; in expert mode the
teacher does not imitate the student, and stops altogether once all its students are that far behind. A teacher that
is only surer of the labels never waits, for then G = d_s - d_t < delta: the two must also disagree about the rest.

Source: Qian et al., ECCV 2022, arXiv:2209.04996, which fixes beforehand who is teacher and who student. With
``teacher`` set, two students are the paper's pair, and three or more its one teacher with several students (1T2S).
Deviation: without it roles follow from the batch: i is teacher of j where d_i < d_j. Peers are of one size as often as
not, and who is ahead may change. This is our rule for N students; it makes every pair switch, also the two
teachers of the paper's other topology (2T1S), which always imitate each other there.
Deviation: G, d and the modes are of the batch, as in the public code. Where training runs on several processes each
has its own share of the batch, and a student can wait on one of them and learn on another.
Deviation: a waiting student gets gradients of zero, but momentum and weight decay still move it; the public code skips
its step. As there, its batch normalisation goes on counting.
Deviation: the public code's scripts for three networks take one pair's exp(...) for the other; here each has its own.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.teacher import Target, Taught, Teacher
from codistill.errors import unknown


def label_distances(probabilities: Tensor, labels: Tensor) -> Tensor:
    """d above: (N, B, K), labels (B,) -> (N,), each in [0, 2]."""
    return (probabilities - F.one_hot(labels, probabilities.shape[2])).abs().sum(dim=2).mean(dim=1)


def gaps(probabilities: Tensor) -> Tensor:
    """G above for every pair: (N, B, K) -> (N, N), symmetric, each in [0, 2]."""
    return (probabilities.unsqueeze(0) - probabilities.unsqueeze(1)).abs().sum(dim=3).mean(dim=2)


def thresholds(distances: Tensor) -> Tensor:
    """delta above for every pair: (N,) -> (N, N), rows are teachers, columns their students."""
    teacher, student = distances.unsqueeze(1), distances.unsqueeze(0)
    total = (teacher + student).clamp(min=torch.finfo(distances.dtype).tiny)  # both may be right and sure of it
    return student - torch.exp(-teacher / total) * teacher


def switch(distances: Tensor, gap: Tensor, teaches: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs are in expert mode (N, N) and who waits (N,), both bool.

    distances (N,), gap (N, N), teaches (N, N) bool: whether the row is teacher of the column.
    """
    ahead = distances.unsqueeze(1) < distances.unsqueeze(0)
    expert = teaches & ahead & (gap > thresholds(distances))
    waits = teaches.any(dim=1) & (expert == teaches).all(dim=1)
    return expert, waits


class Switch(Teacher):
    """Targets are all the others' logits, weighted by the mode of each pair; ``loss_scale`` lets a student wait."""

    one_label = True

    def __init__(self, shapes: Mapping[str, StudentShape], temperature: float, teacher: str | None) -> None:
        super().__init__()
        self.students = list(shapes)
        self.temperature = temperature
        self.teacher = teacher

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        logits = torch.stack([outputs[name].logits for name in self.students]).float()
        with torch.no_grad():
            probabilities = (logits / self.temperature).softmax(dim=2)
            distances = label_distances(probabilities, batch.labels)
            expert, waits = switch(distances, gaps(probabilities), self._roles(distances))
        links = (~expert).to(logits.dtype)  # (N, N) learner, speaker
        targets, loss_scale = {}, {}
        for i, name in enumerate(self.students):
            others = [j for j in range(len(self.students)) if j != i]
            targets[name] = Target(torch.stack([logits[j] for j in others]), torch.stack([links[i, j] for j in others]))
            loss_scale[name] = (~waits[i]).to(logits.dtype)
        return Taught(targets, losses={}, loss_scale=loss_scale)

    def _roles(self, distances: Tensor) -> Tensor:
        """Who is teacher (rows) of whom (columns): (N, N) bool."""
        if self.teacher is None:
            return distances.unsqueeze(1) < distances.unsqueeze(0)
        row = torch.arange(len(self.students), device=distances.device) == self.students.index(self.teacher)
        return row.unsqueeze(1) & ~row.unsqueeze(0)


def switokd(
    shapes: Mapping[str, StudentShape], *, temperature: PositiveFloat = 2.0, teacher: str | None = None
) -> Method:
    """Mutual learning in which a student too far ahead waits for the others (SwitOKD, ECCV 2022, arXiv:2209.04996).

    temperature: of the KL, and of the probabilities by which gap and threshold are measured; the public code has 1.
    teacher: the student that has the teacher's role throughout, as the larger network has in the paper; None gives it,
    for each pair and batch, to the one nearer to the labels.
    """
    if teacher is not None and teacher not in shapes:
        raise unknown("teacher", teacher, shapes)
    return Method(
        lessons={"peers": Lesson(Switch(shapes, temperature, teacher), {"kl": KL(temperature)})},
        weights={"*/ce": 1.0, "*/peers_kl": 1.0},
    )
