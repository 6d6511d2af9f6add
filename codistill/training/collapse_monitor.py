"""Signs that students collapse, looked for after each epoch that follows the warm-up and the first steps; told once.

- A student answers nearly all validation images with one class.
- A student's cross-entropy on the training images is above that of guessing, log K.
- The embeddings of two peers are nearly equal: there is little left to learn from each other.

The first and the last are read off a sample of the validation images. Where there are none, or so few that chance alone
would give such a sign, they are not looked for.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from codistill.errors.printable import printable
from codistill.training.probe import Glance

FEWEST_IMAGES = 100  # n images of width D look alike by chance: CKA of Gaussian noise is about D / (n + D)
FIRST_STEPS = 50  # until batch norm's running means keep up with the weights, answers tell nothing: 30 steps were seen
CONSTANT = 0.99  # share of the images that get one class
ALIKE = 0.99  # linear CKA
_MEND = "A lower optimizer.lr, more optimizer.warmup_epochs or optimizer.clip_norm=5 may help."


def constant_answer(answers: Tensor, labels: Tensor) -> int | None:
    """The class that nearly all answers (n,) are, unless one is as common among the labels (n,)."""
    counts = torch.bincount(answers)
    most = int(counts.argmax())
    commonest = int(torch.bincount(labels).max())
    return most if counts[most] > max(CONSTANT * len(labels), commonest) else None


class Health:
    """Judges students after each epoch but those that begin within the warm-up or end within the first steps.

    class_names: K of them. steps_per_epoch: optimizer steps.
    """

    def __init__(
        self, students: Sequence[str], class_names: Sequence[str], warmup_epochs: float, steps_per_epoch: int
    ) -> None:
        self._students, self._class_names = students, class_names
        self._warmup_epochs, self._steps_per_epoch = warmup_epochs, steps_per_epoch
        self.told: dict[str, str] = {}  # sign and students -> the warning; part of a checkpoint

    def check(self, epoch: int, losses: Mapping[str, float], seen: Glance | None, as_one: bool = False) -> list[str]:
        """The warnings after an epoch, counted from 0, that were not told before.

        losses: the epoch's means in training. seen: a look at validation images, if there are any. as_one: students
        began as one network, on purpose: that they are alike is no sign.
        """
        if epoch < self._warmup_epochs or (epoch + 1) * self._steps_per_epoch < FIRST_STEPS:
            return []
        found = self._guessing(losses)
        if seen is not None and len(seen.labels) >= FEWEST_IMAGES:
            found |= self._collapsed(seen) | ({} if as_one else self._alike(seen))
        new = {sign: f"Epoch {epoch + 1}: {text}" for sign, text in found.items() if sign not in self.told}
        self.told |= new
        return list(new.values())

    def _guessing(self, losses: Mapping[str, float]) -> dict[str, str]:
        classes = len(self._class_names)
        found = {}
        for name in self._students:
            if (loss := losses[f"{name}/ce"]) > math.log(classes):
                found[f"guessing {name}"] = (
                    f"student '{name}' is no better than guessing: its cross-entropy on the training images is "
                    f"{loss:.3f}, that of guessing among {classes} classes {math.log(classes):.3f}. {_MEND}"
                )
        return found

    def _collapsed(self, seen: Glance) -> dict[str, str]:
        found, labels = {}, seen.labels
        for name in self._students:
            given = seen.answers[name]
            if (answer := constant_answer(given, labels)) is not None:
                found[f"constant {name}"] = (
                    f"student '{name}' answers '{printable(self._class_names[answer])}' for "
                    f"{int((given == answer).sum()):,} of {len(labels):,} validation images. {_MEND}"
                )
        return found

    @staticmethod
    def _alike(seen: Glance) -> dict[str, str]:
        found = {}
        for (one, other), alike in seen.cka.items():
            if alike > ALIKE:
                found[f"alike {one} {other}"] = (
                    f"students '{one}' and '{other}' have become alike (linear CKA of their embeddings {alike:.3f}): "
                    "they have little left to teach each other. Other models or tasks, or lower weights of the losses "
                    "between them, keep them apart."
                )
        return found
