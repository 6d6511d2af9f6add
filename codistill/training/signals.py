"""To stop when asked: Ctrl-C, or the SIGTERM of a cluster that takes its machine back.

The first signal lets the running step end and be saved. A second one does not wait, unless a launcher sends them: it
passes on what its processes were sent already.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Training ended early, after everything was saved. ``number``: the signal that asked for it.

    Not an Exception: a loop over runs that goes on after one that failed should end when it is asked to.
    """

    def __init__(self, number: int, epoch: int, step: int) -> None:
        super().__init__(f"Stopped by {signal.Signals(number).name} in epoch {epoch}, after step {step}.")
        self.number = number


class StopRequest:
    """As a context: the signals set ``number``. Only in the main thread, for only there Python handles signals."""

    def __init__(self, note: Callable[[str], None], patient: bool = False) -> None:
        self._note, self._patient = note, patient
        self._before: dict[int, Any] = {}
        self.number: int | None = None

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._asked) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self._patient:
            self.number = number
            return
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        self._note(f"{signal.Signals(number).name}: saving after this step. Once more to leave at once.")
