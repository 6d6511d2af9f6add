"""Students that collapse are told of, by name, once; students that learn are not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import CLASSES, Silent, make_batch, make_cohort
from interrupted import killed_after_an_epoch

from codistill import Cohort
from codistill.config.schema import make_config
from codistill.storage.run_dir import RunFolder
from codistill.storage.run_files import read_metrics, read_summary
from codistill.training import collapse_monitor, trainer
from codistill.training.collapse_monitor import Health, constant_answer
from codistill.training.probe import look
from codistill.training.runtime import Runtime

FINE = {"a/ce": 0.5, "b/ce": 0.5}
SAMPLE = [make_batch(80, seed=1), make_batch(40, seed=2)]
NAMES = ["ape", "bee", "cat", "dog", "eel"]
assert len(NAMES) == CLASSES


class Watch(Health):
    """Looks at the cohort whenever it is to judge."""

    def __init__(self, cohort: Cohort, sample: Any, warmup_epochs: float, steps_per_epoch: int) -> None:
        super().__init__(list(cohort.students), NAMES, warmup_epochs, steps_per_epoch)
        self._see = lambda: None if sample is None else look(cohort, sample, Runtime(torch.device("cpu")))

    def check(self, epoch: int, losses: Mapping[str, float], *_: Any) -> list[str]:
        return super().check(epoch, losses, self._see())


def health_of(cohort: Cohort, sample: Any = SAMPLE, warmup_epochs: float = 0, steps_per_epoch: int = 100) -> Watch:
    return Watch(cohort, sample, warmup_epochs, steps_per_epoch)


def different() -> Cohort:
    """Two students that see differently, and give each class to some images."""
    cohort = make_cohort({"a": "resnet8", "b": "cnn"})[0]
    cohort.eval()
    for student in cohort.students.values():
        classifier = student.classifier
        mean = student(SAMPLE[0].images).embedding.detach().mean(dim=0)
        classifier.bias.data = -classifier.weight.data @ mean
    return cohort


def test_a_constant_answer_is_none_where_the_labels_are_as_constant() -> None:
    labels = torch.tensor([0] * 100 + [1] * 100)
    assert constant_answer(torch.ones_like(labels), labels) == 1
    assert constant_answer(labels, labels) is None
    assert constant_answer(torch.ones(200, dtype=torch.int64), torch.ones(200, dtype=torch.int64)) is None
    nearly = torch.ones(1000, dtype=torch.int64)
    nearly[:10] = 0
    assert constant_answer(nearly, nearly.roll(500) * 2) is None  # 99 % is not more than 99 %
    nearly[0] = 1
    assert constant_answer(nearly, torch.arange(1000) % 2) == 1


def test_students_that_differ_and_learn_are_not_warned_of() -> None:
    assert health_of(different()).check(0, FINE) == []


def test_a_student_that_always_answers_the_same_is_named_with_its_answer() -> None:
    cohort = different()
    cohort.students["b"].classifier.bias.data[3] = 1e6
    (warning,) = health_of(cohort).check(4, FINE)
    assert warning.startswith("Epoch 5: student 'b' answers 'dog' for 120 of 120 validation images.")
    assert "optimizer.lr" in warning


def test_a_student_that_does_no_better_than_guessing_is_named_also_without_validation_images() -> None:
    (warning,) = health_of(different(), sample=None).check(0, {**FINE, "a/ce": 1.7})
    assert "student 'a' is no better than guessing" in warning
    assert "1.700, that of guessing among 5 classes 1.609" in warning


def test_twins_are_named() -> None:
    cohort = make_cohort({"a": "resnet8", "b": "resnet8"})[0]
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    warnings = health_of(cohort).check(0, FINE)
    (alike,) = [warning for warning in warnings if "alike" in warning]
    assert "students 'a' and 'b' have become alike (linear CKA of their embeddings 1.000)" in alike


def test_each_warning_is_given_once_for_each_student_and_sign() -> None:
    cohort = different()
    watch = health_of(cohort)
    guessing = {"a/ce": 1.7, "b/ce": 0.5}
    assert len(watch.check(0, guessing)) == 1
    assert watch.check(1, guessing) == []
    assert len(watch.check(2, {"a/ce": 1.7, "b/ce": 1.7})) == 1
    cohort.students["a"].classifier.bias.data[3] = 1e6
    assert len(watch.check(3, guessing)) == 1
    assert len(watch.told) == 3


def test_nothing_is_said_during_warm_up_nor_of_few_images() -> None:
    cohort = different()
    cohort.students["b"].classifier.bias.data[3] = 1e6
    watch = health_of(cohort, warmup_epochs=1.5)
    assert [len(watch.check(epoch, FINE)) for epoch in (0, 1, 2)] == [0, 0, 1]
    assert health_of(cohort, sample=[make_batch(collapse_monitor.FEWEST_IMAGES - 1)]).check(0, FINE) == []


def test_nothing_is_said_in_the_first_steps_of_tiny_data() -> None:
    guessing = {"a/ce": 1.7, "b/ce": 0.5}
    watch = health_of(different(), steps_per_epoch=15)
    assert [len(watch.check(epoch, guessing)) for epoch in range(4)] == [0, 0, 0, 1]
    assert collapse_monitor.FIRST_STEPS == 50


def test_the_cohort_is_left_in_the_mode_and_with_the_buffers_that_it_had() -> None:
    cohort = different()
    cohort.train()
    before = {key: value.clone() for key, value in cohort.state_dict().items()}
    health_of(cohort).check(0, FINE)
    assert cohort.training
    torch.testing.assert_close(dict(cohort.state_dict()), before, atol=0, rtol=0)


class Listening(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_healthy_short_run_warns_of_nothing(tmp_path: Path) -> None:
    display = Listening()
    config = make_config({"epochs": 3, "batch_size": 64, "method": "dml", "tasks": "none"})
    summary = trainer.train(config, tmp_path / "run", display)
    assert summary["warnings"] == display.warnings == []


def test_what_a_run_warned_of_before_and_until_it_was_interrupted_is_in_the_summary_once(tmp_path: Path) -> None:
    display = Listening()
    given = {"batch_size": 32, "data": {"name": "digits", "per_class": 12}, "method": "dml", "tasks": "none"}
    config = make_config({**given, "epochs": 3, "optimizer": {"weight_decay": 0.05}})
    with killed_after_an_epoch():
        trainer.train(config, tmp_path / "run", display)
    (warned,) = display.warnings
    assert warned.startswith("optimizer.weight_decay=0.05 is one for adamw")
    checkpoint = RunFolder(tmp_path / "run").load_checkpoint()
    assert checkpoint["warned"] == [warned]
    summary = trainer.train(config, tmp_path / "run", Silent(), resume=True)
    assert summary["warnings"] == read_summary(tmp_path / "run")["warnings"] == [warned]


def test_a_runs_warnings_are_shown_logged_and_in_its_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse_monitor, "ALIKE", -1.0)  # now all peers are
    monkeypatch.setattr(collapse_monitor, "FIRST_STEPS", 0)
    display = Listening()
    config = make_config(
        {"method": "collaborative", "epochs": 3, "batch_size": 32, "data": {"name": "digits", "per_class": 12}}
    )
    summary = trainer.train(config, tmp_path / "run", display)
    epochs = [line["warnings"] for line in read_metrics(tmp_path / "run") if line["kind"] == "epoch"]
    assert epochs[0] == epochs[2] == []
    assert "students 'resnet8_1' and 'resnet8_2' have become alike" in epochs[1][-1]
    assert epochs[1] == display.warnings == summary["warnings"] == read_summary(tmp_path / "run")["warnings"]
