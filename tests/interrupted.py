"""Training that ends in the midst of it, as if its process had, for tests of going on. ``killable.py`` really kills."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from codistill.training.recorder import Recorder


class Killed(Exception):
    """Stands for the end of the process."""


@contextmanager
def killed_after_step(steps: int) -> Iterator[None]:
    """What trains in here ends when so many steps are done, and whatever is due after the last one."""
    recorded = Recorder.after_step

    def after_step(self: Recorder, epoch: int, step: int, *rest: Any) -> None:
        recorded(self, epoch, step, *rest)
        if step + 1 == steps:
            raise Killed

    with _killed_in("after_step", after_step):
        yield


@contextmanager
def killed_in_step(number: int) -> Iterator[None]:
    """What trains in here ends in this step, counted from 0, before anybody took note of it."""
    recorded = Recorder.after_step

    def after_step(self: Recorder, epoch: int, step: int, *rest: Any) -> None:
        if step == number:
            raise Killed
        recorded(self, epoch, step, *rest)

    with _killed_in("after_step", after_step):
        yield


@contextmanager
def killed_after_an_epoch() -> Iterator[None]:
    """What trains in here ends after the first epoch, which is saved."""
    recorded = Recorder.after_epoch

    def after_epoch(self: Recorder, epoch: int) -> None:
        recorded(self, epoch)
        raise Killed

    with _killed_in("after_epoch", after_epoch):
        yield


@contextmanager
def _killed_in(method: str, instead: Callable[..., None]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, method, instead)
        with pytest.raises(Killed):
            yield
