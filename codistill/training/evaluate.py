"""Top-1 accuracy of each student, of the teacher and of the students' ensemble."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.training.runtime import Runtime


class Accuracy(NamedTuple):
    """Top-1 accuracies in percent."""

    students: dict[str, float]
    teacher: float | None  # None if the method has no teacher with an answer of its own
    ensemble: float | None  # None of one student


def mean_probability(logits: Iterable[Tensor]) -> Tensor:
    """The ensemble's answer: softmax probabilities (B, K) averaged over members with logits (B, K)."""
    return torch.stack([member.float().softmax(dim=-1) for member in logits]).mean(dim=0)


def evaluate(cohort: Cohort, batches: Iterable[Batch], runtime: Runtime) -> Accuracy:
    """Accuracy over all batches, in evaluation mode; the cohort is left in the mode it was in.

    Of several processes each brings its own batches, perhaps none; their counts are summed.
    """
    runtime.processes.align(cohort)
    correct = torch.zeros(len(cohort.speakers) + 1, dtype=torch.int64, device=runtime.device)
    total = 0
    with runtime.only_looking(cohort):
        for batch in batches:
            logits = cohort.predict(batch.images)
            ensemble = mean_probability(logits[name] for name in cohort.students)
            answers = [*(logits[name] for name in cohort.speakers), ensemble]
            correct += torch.stack([(answer.argmax(dim=-1) == batch.labels).sum() for answer in answers])
            total += len(batch.labels)
    *right, total = runtime.processes.sum(torch.cat([correct, correct.new_tensor([total])])).tolist()
    percents = [100.0 * count / total for count in right]  # students, teacher if any, ensemble
    students = dict(zip(cohort.students, percents, strict=False))
    teacher, ensemble_of_all = percents[-2], percents[-1]
    return Accuracy(
        students, teacher if cohort.answering_teachers else None, ensemble_of_all if len(students) > 1 else None
    )
