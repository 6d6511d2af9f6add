"""How long a run has trained, over all its interruptions: by the wall, and of the processor."""

import time
from collections.abc import Mapping
from typing import Any


class Clock:
    """Stands until ``go_on``, and from ``pause`` before what is no training to the next ``go_on``."""

    def __init__(self) -> None:
        self.steps = 0  # that took the seconds of training
        self.training_seconds = 0.0  # without evaluation and saving
        self.processor_seconds = 0.0  # the same, of all threads of this process
        self._earlier_seconds = 0.0  # in all, of the processes that were interrupted
        self._made = time.perf_counter()
        self._began: tuple[float, float] | None = None  # by the wall and of the processor, if it goes

    @property
    def goes(self) -> bool:
        return self._began is not None

    def pause(self) -> None:
        """What comes now is no training."""
        self.training_seconds = self.training_so_far
        if self._began is not None:
            self.processor_seconds += time.process_time() - self._began[1]
        self._began = None

    def go_on(self) -> None:
        """Training begins or goes on."""
        self._began = time.perf_counter(), time.process_time()

    @property
    def total_seconds(self) -> float:
        """Since the clock was made, those of earlier processes included: training and all else."""
        return self._earlier_seconds + time.perf_counter() - self._made

    @property
    def training_so_far(self) -> float:
        """Seconds of training, those since the last pause included."""
        return self.training_seconds + (0.0 if self._began is None else time.perf_counter() - self._began[0])

    @property
    def steps_per_second(self) -> float:
        """Of training so far; 0 if nothing was timed yet."""
        return self.steps / self.training_so_far if self.steps else 0.0

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {
            "steps_timed": self.steps,
            "training_seconds": self.training_seconds,
            "processor_seconds": self.processor_seconds,
            "total_seconds": self.total_seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Count on from a checkpoint."""
        self.steps = state["steps_timed"]
        self.training_seconds, self.processor_seconds = state["training_seconds"], state["processor_seconds"]
        self._earlier_seconds = state["total_seconds"]
