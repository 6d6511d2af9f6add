"""What everybody answered after each epoch: who knew what first, and whether it reached the others.

Part of each checkpoint, so that a run that was killed goes on with exactly these; in a file of its own when the run
ends. One byte for each image, epoch and speaker: 0.9 MB for 1000 images, 300 epochs, two students and a teacher.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from codistill.training.probe import Glance


class Answers:
    """Grows by one row per epoch."""

    def __init__(self, classes: int) -> None:
        # The smallest integers that hold all classes.
        self._dtype = next(t for t in (torch.uint8, torch.int16, torch.int32) if classes <= torch.iinfo(t).max + 1)
        self._labels = torch.empty(0, dtype=self._dtype)
        self._epochs: list[int] = []
        self._rows: dict[str, list[Tensor]] = {}

    def add(self, epoch: int, glance: Glance) -> None:
        """What was answered after an epoch, counted from 1."""
        self._epochs.append(epoch)
        self._labels = glance.labels.to(self._dtype)
        for name, given in glance.answers.items():
            self._rows.setdefault(name, []).append(given.to(self._dtype))

    @property
    def speakers(self) -> list[str]:
        return list(self._rows)

    def state(self) -> dict[str, Tensor]:
        """``epochs`` (E,) counted from 1, ``labels`` (n,), and ``answers/NAME`` (E, n); empty before the first."""
        if not self._epochs:
            return {}
        answers = {f"answers/{name}": torch.stack(rows) for name, rows in self._rows.items()}
        return {"epochs": torch.tensor(self._epochs, dtype=torch.int32), "labels": self._labels, **answers}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` returned."""
        if state:
            self._epochs = state["epochs"].tolist()
            self._labels = state["labels"]
            self._rows = {
                name.removeprefix("answers/"): list(rows.unbind())
                for name, rows in state.items()
                if name.startswith("answers/")
            }
