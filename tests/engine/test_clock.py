"""The clock of a run: what counts as training, and what a checkpoint keeps of it."""

import time

from codistill.engine.clock import Clock


def worked(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_nothing_counts_as_training_between_a_pause_and_going_on() -> None:
    clock = Clock()
    worked(0.05)
    clock.go_on()
    worked(0.02)
    clock.pause()
    trained = clock.training_seconds, clock.processor_seconds
    worked(0.05)
    clock.go_on()
    clock.pause()
    assert clock.processor_seconds is not None
    assert trained[0] >= 0.015
    assert (trained[1] or 0) < 0.045  # not what came before the first go_on
    assert clock.training_seconds - trained[0] < 0.04
    assert clock.processor_seconds - (trained[1] or 0) < 0.04
    assert (clock.state()["total_seconds"] or 0) >= 0.115


def test_a_resumed_run_counts_on() -> None:
    clock = Clock()
    clock.restore({"steps_timed": 7, "training_seconds": 100.0, "processor_seconds": 200.0, "total_seconds": 300.0})
    clock.go_on()
    worked(0.02)
    clock.pause()
    state = clock.state()
    assert {name: round(value or 0) for name, value in state.items()} == {
        "steps_timed": 7,
        "training_seconds": 100,
        "processor_seconds": 200,
        "total_seconds": 300,
    }
    assert state["training_seconds"] > 100.0  # type: ignore[operator]


def test_a_part_of_the_processor_s_seconds_is_not_told_as_the_whole() -> None:
    clock = Clock()
    clock.restore({"steps_timed": 7, "training_seconds": 100.0, "processor_seconds": None, "total_seconds": 300.0})
    clock.go_on()
    worked(0.01)
    clock.pause()
    assert clock.state()["processor_seconds"] is None
