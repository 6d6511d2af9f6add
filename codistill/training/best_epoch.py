"""The weights of the epoch with the best validation accuracy, kept while training goes on.

Chosen by the mean validation accuracy of the students; of equal epochs the first. They are tested once, after training,
so that no choice is made on test images. It costs a copy of the cohort, in memory and in each checkpoint.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from torch import Tensor

from codistill.core.cohort import Cohort
from codistill.training.evaluate import Accuracy


class BestEpoch:
    """Nothing at first. ``epoch`` is counted from 1; ``weights`` are a state of the cohort."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.accuracy = float("-inf")  # percent, on validation images
        self.weights: dict[str, Tensor] = {}

    def offer(self, epoch: int, validation: Accuracy, cohort: Cohort) -> None:
        """Copy the cohort's weights if this epoch is better than all before it."""
        accuracy = fmean(validation.students.values())
        if accuracy > self.accuracy:
            self.epoch, self.accuracy = epoch, accuracy
            self.weights = {name: tensor.detach().clone() for name, tensor in cohort.state_dict().items()}

    @contextmanager
    def put_into(self, cohort: Cohort) -> Iterator[None]:
        """In here the cohort has these weights; afterwards it has its own again."""
        own = {name: tensor.detach().clone() for name, tensor in cohort.state_dict().items()}
        cohort.load_state_dict(self.weights)
        try:
            yield
        finally:
            cohort.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"epoch": self.epoch, "accuracy": self.accuracy, "weights": self.weights}

    def restore(self, state: Mapping[str, Any], fit: Callable[[str, Tensor], Tensor]) -> None:
        """Take up what ``state`` returned. ``fit``: what to keep here of a whole tensor of that name."""
        self.epoch, self.accuracy = state["epoch"], state["accuracy"]
        self.weights = {name: fit(name, whole) for name, whole in state["weights"].items()}
