"""The weights of the epoch that validation images choose, and their one test."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import Silent
from safetensors.torch import load_file

from codistill.config.schema import RunConfig, make_config
from codistill.storage import checkpoint
from codistill.storage.run_files import read_metrics
from codistill.training import finalize, restore, trainer
from codistill.training.best_epoch import BestEpoch
from codistill.training.evaluate import Accuracy
from codistill.training.recorder import Recorder
from codistill.training.signals import Stopped

SHORT = {"students": {"a": "resnet8", "b": "resnet8"}, "data": {"name": "digits", "per_class": 12}, "batch_size": 32}


def short(**more: Any) -> RunConfig:
    return make_config({**SHORT, "method": "dml", "tasks": "none", "epochs": 3, "log_every": 2, **more})


class Layer(torch.nn.Linear):
    """Stands for a cohort; a cohort's weights are a module's like any other's."""


def offered(*accuracies: float) -> tuple[BestEpoch, Layer]:
    best, layer = BestEpoch(), Layer(1, 1, bias=False)
    for epoch, accuracy in enumerate(accuracies, 1):
        with torch.no_grad():
            layer.weight.fill_(epoch)
        best.offer(epoch, Accuracy({"a": accuracy, "b": 50.0}, None, 100.0 - accuracy), layer)  # type: ignore[arg-type]
    return best, layer


def test_the_first_of_the_best_epochs_is_kept_with_a_copy_of_its_weights() -> None:
    best, layer = offered(30.0, 40.0, 40.0, 35.0)
    assert (best.epoch, best.accuracy) == (2, 45.0)
    with best.put_into(layer):  # type: ignore[arg-type]
        assert layer.weight.item() == 2
    assert layer.weight.item() == 4


def test_the_best_epoch_goes_through_a_checkpoint() -> None:
    best, layer = offered(30.0, 40.0, 35.0)
    again = BestEpoch()
    again.restore(best.state(), lambda name, whole: whole)
    again.offer(4, Accuracy({"a": 39.0, "b": 50.0}, None, 0.0), layer)  # type: ignore[arg-type]
    assert (again.epoch, again.accuracy, again.weights["weight"].item()) == (2, 45.0, 2)


def test_a_run_tests_the_epoch_that_was_best_on_validation_images(tmp_path: Path) -> None:
    summary = trainer.train(short(), tmp_path / "run", Silent())
    epochs = [line for line in read_metrics(tmp_path / "run") if line["kind"] == "epoch"]
    means = [sum(line["validation_accuracy"]["students"].values()) for line in epochs]
    selected = summary["test_accuracy_selected"]
    assert selected["epoch"] == means.index(max(means)) + 1
    state = checkpoint.read(tmp_path / "run" / "checkpoint.pt")["best_epoch"]["weights"]
    saved = load_file(tmp_path / "run" / "students" / "a.best.safetensors")
    assert all(torch.equal(tensor, state[f"students.a.{name}"]) for name, tensor in saved.items())
    # The file alone gives the accuracy that was written down.
    students = tmp_path / "run" / "students"
    for name in "ab":
        shutil.copy(students / f"{name}.best.safetensors", students / f"{name}.safetensors")
    digests = {name: sha256((students / f"{name}.safetensors").read_bytes()).hexdigest() for name in "ab"}
    (tmp_path / "run" / "summary.json").write_text(json.dumps({**summary, "sha256": digests}))
    accuracy, _ = restore.evaluate_run(tmp_path / "run")
    assert accuracy.students == selected["students"]
    assert accuracy.ensemble == selected["ensemble"]


def test_an_earlier_epoch_is_tested_with_its_own_weights_and_the_last_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = BestEpoch.offer

    def first_is_best(self: BestEpoch, epoch: int, validation: Accuracy, cohort: Any) -> None:
        perfect = Accuracy(dict.fromkeys(validation.students, 100.0 - epoch), None, 0.0)
        offer(self, epoch, perfect, cohort)

    monkeypatch.setattr(BestEpoch, "offer", first_is_best)
    summary = trainer.train(short(), tmp_path / "run", Silent())
    assert summary["test_accuracy_selected"]["epoch"] == 1
    assert summary["test_accuracy_selected"]["students"] != summary["test_accuracy"]["students"]
    last, best = (load_file(tmp_path / "run" / "students" / name) for name in ("a.safetensors", "a.best.safetensors"))
    assert not torch.equal(last["classifier.weight"], best["classifier.weight"])
    accuracy, _ = restore.evaluate_run(tmp_path / "run")
    assert accuracy.students == summary["test_accuracy"]["students"]


def test_a_resumed_run_selects_the_same_epoch_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer.train(short(), tmp_path / "whole", Silent())
    after_epoch = Recorder.after_epoch

    def stops(self: Recorder, epoch: int) -> None:
        after_epoch(self, epoch)
        if epoch == 1:
            raise Stopped(2, 2, 0)

    monkeypatch.setattr(Recorder, "after_epoch", stops)
    with pytest.raises(Stopped):
        trainer.train(short(), tmp_path / "halves", Silent())
    monkeypatch.setattr(Recorder, "after_epoch", after_epoch)
    halves = trainer.train(short(), tmp_path / "halves", Silent(), resume=True)
    assert halves["test_accuracy_selected"] == whole["test_accuracy_selected"]
    one, other = (load_file(tmp_path / run / "students" / "b.best.safetensors") for run in ("whole", "halves"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_without_validation_images_nothing_is_selected(tmp_path: Path) -> None:
    summary = trainer.train(short(epochs=1, data={**SHORT["data"], "validation": 0}), tmp_path / "run", Silent())
    assert summary["test_accuracy_selected"] is None
    assert not list((tmp_path / "run" / "students").glob("*.best.*"))


def test_the_test_images_are_looked_at_after_training_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    evaluate = finalize.evaluate  # of the test images; the recorder has its own name for it

    def noted(*arguments: Any) -> Accuracy:
        seen.append("test")
        return evaluate(*arguments)

    monkeypatch.setattr(finalize, "evaluate", noted)
    after_epoch = Recorder.after_epoch

    def told(self: Recorder, epoch: int) -> None:
        seen.append(epoch)
        after_epoch(self, epoch)

    monkeypatch.setattr(Recorder, "after_epoch", told)
    trainer.train(short(), tmp_path / "run", Silent())
    assert seen[:4] == [0, 1, 2, "test"]
    assert seen[4:] in ([], ["test"])
