"""A look at a sample of the validation images after an epoch: what everybody answers, and how alike they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.metrics.cka import linear_cka
from codistill.metrics.diversity import disagreement
from codistill.metrics.effective_rank import effective_rank
from codistill.metrics.plain import plain
from codistill.training.runtime import Runtime


@dataclass(frozen=True)
class Glance:
    """What was seen, on the CPU, of the same n images."""

    answers: dict[str, Tensor]  # of each student, and of the teacher if one answers: (n,) classes
    embeddings: dict[str, Tensor]  # of each student: (n, D)
    labels: Tensor  # (n,)

    def richness(self) -> dict[str, Any]:
        """student -> effective rank of its embeddings."""
        return {name: plain(effective_rank(own.numpy()), 3) for name, own in self.embeddings.items()}

    @cached_property
    def cka(self) -> dict[tuple[str, str], float]:
        """Linear CKA of the embeddings of each two students."""
        own = {name: embeddings.numpy() for name, embeddings in self.embeddings.items()}
        return {(one, other): linear_cka(own[one], own[other]) for one, other in combinations(own, 2)}

    def diversity(self) -> dict[str, dict[str, Any]]:
        """``a/b`` -> linear CKA of the two students' embeddings, and the percentage of images they disagree on."""
        return {
            f"{one}/{other}": {
                "cka": plain(cka, 4),
                "disagreement": plain(100 * disagreement(self.answers[one].numpy(), self.answers[other].numpy()), 2),
            }
            for (one, other), cka in self.cka.items()
        }


def look(cohort: Cohort, sample: Iterable[Batch], runtime: Runtime) -> Glance:
    """See each image of the sample once, in evaluation mode. Nothing in training changes."""
    answers: dict[str, list[Tensor]] = {name: [] for name in cohort.speakers}
    embeddings: dict[str, list[Tensor]] = {name: [] for name in cohort.students}
    labels = []
    with runtime.only_looking(cohort):
        for batch in sample:
            outputs = cohort.see(batch.images)
            logits = cohort.logits(outputs)
            for name, own in answers.items():
                own.append(logits[name].argmax(dim=-1).cpu())
            for name, output in outputs.items():
                embeddings[name].append(output.embedding.float().cpu())
            labels.append(batch.labels.cpu())
    return Glance(_joined(answers), _joined(embeddings), torch.cat(labels))


def _joined(parts: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat(list(own)) for name, own in parts.items()}
