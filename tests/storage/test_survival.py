"""A run is killed, again and again, and ends as if nothing had happened."""

import itertools
import random
import socket
import time
from pathlib import Path

import killable
import pytest

from codistill import UserError
from codistill.config.schema import RunConfig, make_config
from codistill.experiments.doctor import first_difference
from codistill.storage.checkpoint import Checkpoints
from codistill.storage.run_dir import RunFolder
from codistill.storage.run_files import is_training
from codistill.training import restore, trainer
from codistill.training.display import Silent


def tiny(epochs: int) -> RunConfig:
    """Two steps an epoch: much of the time is spent in saving."""
    return make_config(
        {
            "students": {"a": "resnet8", "b": "resnet8"},
            "tasks": "jigsaw",
            "method": "collaborative",
            "data": {"name": "digits", "per_class": 4, "validation": 0.02},
            "batch_size": 20,
            "epochs": epochs,
            "log_every": 1,
        }
    )


def assert_survives(folder: Path, epochs: int, kills: int, seed: int) -> None:
    """Kill a run ``kills`` times, half of them inside file operations, resuming it each time; then let it end."""
    config, moments = tiny(epochs), random.Random(seed)
    for kill in range(kills):
        if kill % 2:
            ended = killable.train(config, folder / "broken", fatal=moments.randint(1, 12))
        else:
            ended = killable.train_until_some_moment(config, folder / "broken", moments)
        assert not ended, f"the run has ended after {kill} kills: give it more epochs"
        assert_resumable_or_nothing(folder / "broken")
    assert killable.train(config, folder / "broken")
    assert killable.train(config, folder / "whole")
    assert first_difference(folder / "whole", folder / "broken") is None


def assert_resumable_or_nothing(run: Path) -> None:
    if not (run / "config.yaml").exists():
        assert not run.exists() or {path.name for path in run.iterdir()} <= {".lock", ".config.yaml.tmp"}
        return
    restore.read_run_config(run)
    if Checkpoints(run).any:
        warnings: list[str] = []
        with RunFolder(run, warnings.append) as folder:
            state = folder.take_up()
        assert state is not None
        assert state["epochs_done"] > 0
        # No kill damages a file. One between the two renames of a save leaves the previous checkpoint alone.
        assert all("checkpoint.pt' is missing" in warning for warning in warnings)


def test_a_run_that_is_killed_three_times_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    assert_survives(tmp_path, epochs=10, kills=3, seed=0)


@pytest.mark.slow
def test_a_run_that_is_killed_sixty_times_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    assert_survives(tmp_path, epochs=150, kills=60, seed=0)


@pytest.mark.slow
def test_there_is_no_file_operation_at_which_a_run_may_not_be_killed(tmp_path: Path) -> None:
    config = tiny(2)
    assert killable.train(config, tmp_path / "whole")
    for fatal in itertools.count(1):
        broken = tmp_path / str(fatal)
        if killable.train(config, broken, fatal):
            break  # it has fewer operations
        assert_resumable_or_nothing(broken)
        if not RunFolder(broken).finished:  # with its summary it is, whatever would have come after
            assert killable.train(config, broken)
        assert first_difference(tmp_path / "whole", broken) is None
    assert fatal > 20


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone_and_readers_are_not(
    tmp_path: Path,
) -> None:
    run, config = tmp_path / "run", tiny(1000)
    first = killable.begin(config, run)
    try:
        while first.is_alive() and not (run / "checkpoint.pt").exists():
            time.sleep(0.01)
        holder = rf"'{run}' is being trained by process {first.pid} on {socket.gethostname()}\."
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(UserError, match=holder):
                trainer.train(config, run, Silent(), **options)
        with pytest.raises(UserError, match="The run is not finished"):
            restore.evaluate_run(run)
        assert is_training(run)
        assert first.is_alive()
    finally:
        first.kill()
        first.join()
    assert not is_training(run), "though its lock file is there"
    with RunFolder(run) as folder:
        assert folder.take_up() is not None
