"""The clock of a run: what counts as training, and what a checkpoint keeps of it."""

import time
from pathlib import Path

import pytest
from cohorts import Silent

from codistill.config.schema import make_config
from codistill.storage.checkpoint import read
from codistill.training import finalize, trainer
from codistill.training.timer import Clock


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
    assert trained[0] >= 0.015
    assert trained[1] < 0.045  # not what came before the first go_on
    assert clock.training_seconds - trained[0] < 0.04
    assert clock.processor_seconds - trained[1] < 0.04
    assert clock.state()["total_seconds"] >= 0.115


def test_the_seconds_in_all_are_known_whenever_one_asks_also_after_a_resumption() -> None:
    clock = Clock()
    worked(0.05)
    first = clock.total_seconds
    worked(0.05)
    assert 0.045 <= first <= clock.total_seconds - 0.045
    resumed = Clock()
    resumed.restore({**clock.state(), "total_seconds": 300.0})
    worked(0.05)
    assert resumed.total_seconds >= 300.045


def test_a_run_s_seconds_count_what_comes_after_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalize, "save_outputs", lambda *given: time.sleep(1.0))
    data = {"name": "digits", "per_class": 4}
    config = make_config({"students": {"a": "resnet8", "b": "resnet8"}, "data": data, "batch_size": 20, "epochs": 1})
    summary = trainer.train(config, tmp_path / "run", Silent())
    assert summary["seconds"] >= read(tmp_path / "run" / "checkpoint.pt")["total_seconds"] + 0.9


def test_a_resumed_run_counts_on() -> None:
    clock = Clock()
    clock.restore({"steps_timed": 7, "training_seconds": 100.0, "processor_seconds": 200.0, "total_seconds": 300.0})
    clock.go_on()
    worked(0.02)
    clock.pause()
    state = clock.state()
    assert {name: round(value) for name, value in state.items()} == {
        "steps_timed": 7,
        "training_seconds": 100,
        "processor_seconds": 200,
        "total_seconds": 300,
    }
    assert state["training_seconds"] > 100.0
