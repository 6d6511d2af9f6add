"""How long a run has trained, over all its interruptions: by the wall, and of the processor."""

import time
from collections.abc import Mapping
from typing import Any


class Clock:
    """Runs from its making; ``pause`` before what is no training, ``go_on`` after it."""

    def __init__(self) -> None:
        self.training_seconds = 0.0  # without evaluation and saving
        # The same, of all threads of this process; None if a part of it is not known.
        self.processor_seconds: float | None = 0.0
        self.total_seconds = 0.0
        self._counted = self._began = time.perf_counter()
        self._processor_began = time.process_time()

    def pause(self) -> None:
        """What comes now is no training."""
        self.training_seconds = self.training_so_far
        if self.processor_seconds is not None:
            self.processor_seconds += time.process_time() - self._processor_began
        self._began, self._processor_began = time.perf_counter(), time.process_time()

    def go_on(self) -> None:
        """Training goes on."""
        self._began, self._processor_began = time.perf_counter(), time.process_time()

    @property
    def training_so_far(self) -> float:
        """Seconds of training, those since the last pause included."""
        return self.training_seconds + time.perf_counter() - self._began

    def state(self) -> dict[str, float | None]:
        """For a checkpoint."""
        now = time.perf_counter()
        self.total_seconds += now - self._counted
        self._counted = now
        return {
            "training_seconds": self.training_seconds,
            "processor_seconds": self.processor_seconds,
            "total_seconds": self.total_seconds,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Count on from a checkpoint; older ones do not know the seconds of the processor."""
        self.training_seconds, self.total_seconds = state["training_seconds"], state["total_seconds"]
        self.processor_seconds = state.get("processor_seconds")
