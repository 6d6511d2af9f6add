"""With ``--epoch best`` a student is exported and predicts as it was after the epoch that validation images chose."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import Silent
from safetensors.torch import load_file

from codistill import UserError
from codistill.config.schema import make_config
from codistill.export import export
from codistill.export.predictor import open_predictor
from codistill.export.select import choose_student
from codistill.storage.run_files import read_metrics, read_summary
from codistill.training import trainer
from codistill.training.best_epoch import BestEpoch
from codistill.training.evaluate import Accuracy

SHORT = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "data": {"name": "digits", "per_class": 20},
    "batch_size": 32,
    "epochs": 2,
    "tasks": "none",
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, of which the first was the best."""
    offer = BestEpoch.offer

    def first_is_best(self: BestEpoch, epoch: int, validation: Accuracy, cohort: Any) -> None:
        offer(self, epoch, Accuracy(dict.fromkeys(validation.students, 100.0 - epoch), None, 0.0), cohort)

    run = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestEpoch, "offer", first_is_best)
        trainer.train(make_config(SHORT), run, Silent())
    return run


def test_the_export_is_of_the_best_epoch_and_says_which_and_how_good_it_is(first: Path, tmp_path: Path) -> None:
    summary = read_summary(first)
    best, last = (summary[key]["students"]["a"] for key in ("test_accuracy_selected", "test_accuracy"))
    assert best != last
    made = export(first, "a", epoch="best", out=tmp_path / "best")
    assert made.facts["epoch"] == 1
    assert made.facts["test_accuracy"]["exported"] == pytest.approx(best)
    assert made.facts["test_accuracy"]["run"] == best
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "after epoch 1 of 2, the best by the students' mean accuracy on validation images" in card
    assert f"**{best:.2f} %**" in card
    weights = load_file(first / "students" / "a.best.safetensors")
    assert all((weights[key] == value).all() for key, value in load_file(made.file).items())

    at_the_end = export(first, "a", out=tmp_path / "last")
    assert (at_the_end.facts["epoch"], at_the_end.facts["test_accuracy"]["run"]) == (2, last)
    assert "after epoch 2 of 2, the last" in (at_the_end.folder / "README.md").read_text(encoding="utf-8")

    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for epoch, folder in (("best", made.folder), (None, at_the_end.folder)):
        of_run = open_predictor(first, "a", epoch=epoch).probabilities([image])
        np.testing.assert_allclose(of_run, open_predictor(folder).probabilities([image]), atol=1e-6)


def test_the_best_student_is_that_of_the_best_epoch(first: Path) -> None:
    then = read_metrics(first)[0]["validation_accuracy"]["students"]
    chosen = choose_student(first, "best", "best")
    assert chosen.name == max(then, key=lambda name: then[name])
    assert chosen.why == f"the best by validation accuracy (a {then['a']:.2f} %, b {then['b']:.2f} %)"


def test_what_has_no_best_epoch_is_told(first: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown --epoch '2'\. Choices: last, best"):
        choose_student(first, "a", "2")
    with pytest.raises(UserError, match="--epoch best is for a student, not for 'ensemble'"):
        export(first, "ensemble", "torch", epoch="best", out=tmp_path / "export")
    with pytest.raises(UserError, match="--epoch is for run folders"):
        open_predictor(export(first, "a", out=tmp_path / "export").folder, epoch="best")
    run = shutil.copytree(first, tmp_path / "copy")
    path = run / "students" / "a.best.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"a\.best\.safetensors' was altered"):
        open_predictor(run, "a", epoch="best")
    with pytest.raises(UserError, match=r"a\.best\.safetensors' was altered"):
        export(run, "a", epoch="best", out=tmp_path / "other")
