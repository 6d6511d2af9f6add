"""A run that has so many minutes: what is planned on the way is written down, and reproduces it."""

from pathlib import Path

import pytest
import torch
from cohorts import Silent
from interrupted import killed_after_an_epoch, killed_after_step
from test_resume import SETTINGS, STEPS, steady, weights

from codistill import UserError
from codistill.config.schema import make_config
from codistill.storage.checkpoint import read
from codistill.storage.run_files import read_config, read_summary
from codistill.training import time_budget, trainer
from codistill.training.distributed.process_group import Processes
from codistill.training.resume import config_to_go_on

PLANNED = [{"until_step": STEPS, "epochs": 20}, {"until_step": 2 * STEPS, "epochs": 6}]


class Noting(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first epoch 6 seem to fit, after the second 4."""
    monkeypatch.setattr(time_budget, "epochs_in_time", lambda done, *others: 6 if done == 1 else 4)


def test_epochs_follow_the_time_that_is_left_and_the_configuration_alone_reproduces_the_run(
    slower: None, tmp_path: Path
) -> None:
    trainer.train(SETTINGS, tmp_path / "run", Silent(), minutes=5)
    config = read_config(tmp_path / "run")
    assert (config["epochs"], config["replanned"]) == (4, PLANNED)

    trainer.train(make_config(config), tmp_path / "again", Silent())
    torch.testing.assert_close(weights(tmp_path / "again"), weights(tmp_path / "run"), atol=0, rtol=0)
    assert steady(tmp_path / "again") == steady(tmp_path / "run")


@pytest.mark.parametrize("fatal_step", [STEPS + 1, 2 * STEPS + 1])
def test_a_run_that_was_killed_goes_on_with_the_last_plan(slower: None, fatal_step: int, tmp_path: Path) -> None:
    with killed_after_step(fatal_step):  # it was planned anew, and that not saved yet
        trainer.train(SETTINGS, tmp_path / "run", Silent(), minutes=5)
    plans = PLANNED[: fatal_step // STEPS]
    trainer.train(config_to_go_on(tmp_path / "run", {}), tmp_path / "run", Silent(), resume=True)
    config = read_config(tmp_path / "run")
    assert (config["epochs"], config["replanned"]) == (6 if len(plans) == 1 else 4, plans)


@pytest.mark.parametrize("fatal_step", [2, STEPS + 1])
def test_a_run_that_a_launcher_starts_again_keeps_its_plan_and_its_deadline(
    slower: None, fatal_step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after_step(fatal_step):
        trainer.train(SETTINGS, tmp_path / "run", Silent(), minutes=5)
    ended = read(tmp_path / "run" / "checkpoint.pt")["ends"] if fatal_step > STEPS else None
    monkeypatch.setattr(Processes, "restarted", True)
    trainer.train(SETTINGS, tmp_path / "run", Silent(), minutes=50)  # which counts from the start that is not this one
    config = read_config(tmp_path / "run")
    assert (config["epochs"], config["replanned"]) == (4, PLANNED)
    assert ended in (None, read(tmp_path / "run" / "checkpoint.pt")["ends"])


def test_of_a_recipe_that_was_planned_anew_once_only_the_keys_are_taken(slower: None, tmp_path: Path) -> None:
    recipe = {**SETTINGS, "replanned": [{"until_step": 8, "epochs": 50}]}
    trainer.train(recipe, tmp_path / "run", Silent(), minutes=5)
    assert read_config(tmp_path / "run")["replanned"] == PLANNED


def test_minutes_may_be_given_to_a_run_that_goes_on(slower: None, tmp_path: Path) -> None:
    with killed_after_an_epoch():
        trainer.train(SETTINGS, tmp_path / "run", Silent())
    trainer.train(config_to_go_on(tmp_path / "run", {}), tmp_path / "run", Silent(), resume=True, minutes=5)
    config = read_config(tmp_path / "run")
    assert (config["epochs"], config["replanned"]) == (4, [{"until_step": 2 * STEPS, "epochs": 20}])


def test_a_run_without_time_ends_tested_after_its_first_epoch(tmp_path: Path) -> None:
    display = Noting()
    summary = trainer.train(SETTINGS, tmp_path / "run", display, minutes=1e-4)
    assert summary == read_summary(tmp_path / "run")
    assert summary["test_accuracy_selected"]["epoch"] == 1
    assert read_config(tmp_path / "run")["epochs"] == 1
    (*before, plan, remark) = display.notes
    assert plan.startswith("Training ends with epoch 1: an epoch takes")
    assert remark.startswith("3 steps are few for tasks")
    assert not any("few for tasks" in note for note in before)  # how many they are was not known


def test_a_remark_on_few_steps_is_made_once_however_often_the_plan_changes(slower: None, tmp_path: Path) -> None:
    display = Noting()
    trainer.train(SETTINGS, tmp_path / "run", display, minutes=5)
    assert len([note for note in display.notes if " epochs: an epoch takes " in note]) == 2
    assert len([note for note in display.notes if "few for tasks" in note]) == 1


def test_what_is_to_happen_at_a_share_of_training_needs_epochs(tmp_path: Path) -> None:
    harmed = {**SETTINGS, "poison": {"student": "b", "reinitialise": 0.5}}
    with pytest.raises(UserError, match=r"poison\.reinitialise .* which minutes would change: give epochs"):
        trainer.train(harmed, tmp_path / "run", Silent(), minutes=5)
    assert not (tmp_path / "run").exists()
