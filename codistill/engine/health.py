"""Signs that students collapse, looked for after each epoch that follows the warm-up; each is told once.

- A student answers nearly all validation images with one class.
- A student's cross-entropy on the training images is above that of guessing, log K.
- The embeddings of two peers are nearly equal: there is little left to learn from each other.

The first and the last are read off a sample of the validation images. Where there are none, or so few that chance alone
would give such a sign, they are not looked for.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from codistill.batch import Batch
from codistill.cohort import Cohort
from codistill.engine.runtime import Runtime

FEWEST_IMAGES = 100  # n images of width D look alike by chance: CKA of Gaussian noise is about D / (n + D)
CONSTANT = 0.99  # share of the images that get one class
ALIKE = 0.99  # linear CKA
_MEND = "A lower optimizer.lr, more optimizer.warmup_epochs or optimizer.clip_norm=5 may help."


def linear_cka(x: Tensor, y: Tensor) -> float:
    """How alike two embeddings of the same n images are, (n, D1) and (n, D2): 1 if equal up to rotation and scale.

    With the mean over images subtracted, CKA = ||y^T x||_F^2 / (||x^T x||_F ||y^T y||_F) (Kornblith et al., "Similarity
    of Neural Network Representations Revisited", ICML 2019, arXiv:1905.00414). 0 where an embedding is constant.
    """
    x, y = (one.double() - one.double().mean(dim=0) for one in (x, y))
    shared = (y.T @ x).square().sum()
    own = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    return float(shared / own) if own > 0 else 0.0


def constant_answer(answers: Tensor, labels: Tensor) -> int | None:
    """The class that nearly all answers (n,) are, unless one is as common among the labels (n,)."""
    counts = torch.bincount(answers)
    most = int(counts.argmax())
    commonest = int(torch.bincount(labels).max())
    return most if counts[most] > max(CONSTANT * len(labels), commonest) else None


class Health:
    """Looks at a cohort after each epoch.

    sample: validation images that are seen once more, or None. class_names: K of them.
    """

    def __init__(
        self,
        cohort: Cohort,
        sample: Iterable[Batch] | None,
        class_names: Sequence[str],
        runtime: Runtime,
        warmup_epochs: float,
    ) -> None:
        self._cohort, self._sample, self._class_names = cohort, sample, class_names
        self._runtime, self._warmup_epochs = runtime, warmup_epochs
        self.told: dict[str, str] = {}  # sign and students -> the warning; part of a checkpoint

    def check(self, epoch: int, losses: Mapping[str, float]) -> list[str]:
        """The warnings after an epoch, counted from 0, that were not told before; ``losses``: its means in training."""
        if epoch < self._warmup_epochs:
            return []
        found = self._guessing(losses)
        if self._sample is not None:
            found |= self._collapsed(self._sample)
        new = {sign: f"Epoch {epoch + 1}: {text}" for sign, text in found.items() if sign not in self.told}
        self.told |= new
        return list(new.values())

    def _guessing(self, losses: Mapping[str, float]) -> dict[str, str]:
        classes = len(self._class_names)
        found = {}
        for name in self._cohort.students:
            if (loss := losses[f"{name}/ce"]) > math.log(classes):
                found[f"guessing {name}"] = (
                    f"student '{name}' is no better than guessing: its cross-entropy on the training images is "
                    f"{loss:.3f}, that of guessing among {classes} classes {math.log(classes):.3f}. {_MEND}"
                )
        return found

    def _collapsed(self, sample: Iterable[Batch]) -> dict[str, str]:
        answers, embeddings, labels = self._look(sample)
        if len(labels) < FEWEST_IMAGES:
            return {}
        found = {}
        for name, given in answers.items():
            if (answer := constant_answer(given, labels)) is not None:
                found[f"constant {name}"] = (
                    f"student '{name}' answers '{self._class_names[answer]}' for {int((given == answer).sum()):,} of "
                    f"{len(labels):,} validation images. {_MEND}"
                )
        for one, other in combinations(embeddings, 2):
            if (alike := linear_cka(embeddings[one], embeddings[other])) > ALIKE:
                found[f"alike {one} {other}"] = (
                    f"students '{one}' and '{other}' have become alike (linear CKA of their embeddings {alike:.3f}): "
                    "they have little left to teach each other. Other models or tasks, or lower weights of the losses "
                    "between them, keep them apart."
                )
        return found

    def _look(self, sample: Iterable[Batch]) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """On the CPU: each student's answers (n,) and embeddings (n, D), and the labels (n,)."""
        answers: dict[str, list[Tensor]] = {name: [] for name in self._cohort.students}
        embeddings: dict[str, list[Tensor]] = {name: [] for name in self._cohort.students}
        labels = []
        with self._runtime.only_looking(self._cohort):
            for batch in sample:
                for name, output in self._cohort.see(batch.images).items():
                    answers[name].append(output.logits.argmax(dim=-1).cpu())
                    embeddings[name].append(output.embedding.float().cpu())
                labels.append(batch.labels.cpu())
        return _joined(answers), _joined(embeddings), torch.cat(labels)


def _joined(parts: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat(list(own)) for name, own in parts.items()}
