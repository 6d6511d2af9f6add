"""Burn-in: one network is trained for all students, and each goes on from it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import Silent
from interrupted import killed_after_step
from test_resume import steady, weights

from codistill import UserError
from codistill.config.schema import make_config
from codistill.storage.run_files import read_config, read_metrics, read_summary
from codistill.training import trainer
from codistill.training.duration import EarlierPlan, Horizon
from codistill.training.resume import config_to_go_on

SETTINGS: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "method": {"name": "dml", "temperature": 3, "ramp": 0.5},
    "burn_in": 0.5,
    "data": {"name": "digits", "per_class": 12},
    "batch_size": 32,
    "log_every": 2,
    "epochs": 4,
}
STEPS = 3  # of an epoch


def train(run: Path, **changes: Any) -> Path:
    trainer.train(make_config({**SETTINGS, **changes}), run, Silent())
    return run


def epochs_of(run: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run) if line["kind"] == "epoch"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("burn_in") / "run")


def test_students_are_one_network_until_burn_in_ends_and_part_after(whole: Path) -> None:
    for epoch in epochs_of(whole):
        validation, difference = epoch["validation_accuracy"]["students"], epoch["diversity"]["a/b"]
        if epoch["epoch"] <= 2:
            assert set(epoch["losses"]) == {"a/ce", "b/ce", "total"}
            assert epoch["losses"]["a/ce"] == epoch["losses"]["b/ce"] == epoch["losses"]["total"]
            assert validation["a"] == validation["b"]
            assert difference["cka"] == pytest.approx(1.0, abs=1e-3)
        else:
            assert {"a/peers_kl", "b/peers_kl"} < set(epoch["losses"])
    final = weights(whole)
    assert not torch.equal(final["students.a.classifier.weight"], final["students.b.classifier.weight"])


def test_burn_in_is_the_plain_training_of_the_first_student(whole: Path, tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", students={"a": "resnet8"}, method="independent", burn_in=0)
    for burnt, plain in zip(epochs_of(whole)[:2], epochs_of(alone)[:2], strict=True):
        assert burnt["losses"]["a/ce"] == plain["losses"]["a/ce"]
        assert burnt["validation_accuracy"]["students"]["a"] == plain["validation_accuracy"]["students"]["a"]


def test_each_student_sees_an_augmentation_of_its_own_unless_told_otherwise(whole: Path, tmp_path: Path) -> None:
    assert read_config(whole)["augment"]["per_student"] is True
    same = train(tmp_path / "same", augment={"per_student": False})
    final = weights(same)  # nothing sets two equal students of mutual learning apart
    assert torch.equal(final["students.a.classifier.weight"], final["students.b.classifier.weight"])


@pytest.mark.parametrize("fatal_step", [2, STEPS + 1, 2 * STEPS, 2 * STEPS + 1, 3 * STEPS + 2])
def test_a_killed_run_goes_on_to_the_same_weights(whole: Path, fatal_step: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with killed_after_step(fatal_step):
        train(run, save_minutes=1e-9)
    trainer.train(config_to_go_on(run, {}), run, Silent(), resume=True)
    torch.testing.assert_close(weights(run), weights(whole), atol=0, rtol=0)
    assert steady(run) == steady(whole)


def test_ramps_begin_where_burn_in_ends() -> None:
    horizon = Horizon(epochs=8, steps_per_epoch=10, burn_in=0.5)
    assert horizon.burn_in_epochs == 4
    assert [horizon.ramp_progress(step) for step in (0, 39, 40, 60)] == [0.0, 0.0, 0.0, 0.5]
    assert horizon.ramp_progress_after(80) == 1.0
    assert Horizon(epochs=8, steps_per_epoch=10).ramp_progress(20) == 0.25


@pytest.mark.parametrize(
    ("epochs", "earlier", "expected"),
    [
        (20, [], 10),
        (100, [EarlierPlan(150, 20)], 10),  # students had parted when training became longer
        (100, [EarlierPlan(50, 20)], 50),
        (9, [EarlierPlan(80, 20)], 8),  # training became shorter within burn-in, which ends at once
    ],
)
def test_students_part_where_the_plan_of_the_time_says(epochs: int, earlier: list[EarlierPlan], expected: int) -> None:
    assert Horizon(epochs, 10, earlier, burn_in=0.5).burn_in_epochs == expected


def test_the_summary_counts_the_passes_that_were_made(whole: Path) -> None:
    assert read_summary(whole)["forward_passes"] == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"students": {"a": "resnet8", "b": "resnet14"}}, "students of one model"),
        ({"students": {"a": "resnet8"}, "method": "independent"}, "two students or more"),
        ({"method": "one"}, "students of their own"),
        ({"method": "pcl"}, "no averages over steps"),
        ({"poison": {"student": "b", "random_labels": 0.5}}, "set burn_in=0"),
        ({"method": "kdcl", "augment": {"per_student": True}}, "method.own_augmentations"),
        ({"burn_in": 1.0}, "burn_in"),
    ],
)
def test_what_cannot_begin_as_one_network_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        train(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
