"""What a run leaves for its report beyond its analysis: weights of losses, and images that only the run has right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import Silent

from codistill.config.schema import make_config
from codistill.evaluation.analyse import analyse_run
from codistill.metrics.advantages import fixed_by
from codistill.metrics.raw import read_raw, read_tensors
from codistill.storage.run_files import read_metrics
from codistill.training import trainer
from codistill.training.restore import rebuild

SHORT: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "data": {"name": "digits", "per_class": 20},
    "batch_size": 40,
    "epochs": 2,
    "tasks": "none",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two students alone and together, analysed."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("independent", "dml"):
        trainer.train(make_config({**SHORT, "method": method}), folder / method, Silent())
    analyse_run(folder / "independent")
    analyse_run(folder / "dml", control=folder / "independent")
    return [folder / "independent", folder / "dml"]


def test_an_epoch_logs_what_each_loss_weighs(pair: list[Path]) -> None:
    for run in pair:
        for record in read_metrics(run):
            losses, weights = record["losses"], record.get("weights")
            if record["kind"] == "epoch":
                assert set(weights) == set(losses) - {"total"}
                if run.name == "independent":  # its weights are the same in all steps
                    assert sum(losses[name] * weights[name] for name in weights) == pytest.approx(losses["total"])


def test_images_that_only_the_run_has_right_are_kept_with_both_answers(pair: list[Path]) -> None:
    control, run = pair
    arrays, about = read_tensors(run / "outputs" / "fixed.safetensors")
    ours, theirs = read_raw(run, "test"), read_raw(control, "test")
    rows = arrays["rows"]
    assert 0 < len(rows) <= 24
    test = rebuild(run, "cpu")[0].test.images
    assert np.array_equal(arrays["images"], test.pixels[rows].numpy())
    assert np.array_equal(arrays["labels"], ours.labels[rows])
    fixed = np.zeros(len(rows), dtype=bool)
    for name in ("a", "b"):
        answers, alone = (raw.logits[name].argmax(axis=1) for raw in (ours, theirs))
        assert np.array_equal(arrays[f"answers/{name}"], answers[rows])
        assert np.array_equal(arrays[f"control/{name}"], alone[rows])
        right, before = answers == ours.labels, alone == ours.labels
        fixed |= (right & ~before)[rows]
        counts = about["counts"][name]
        assert counts["fixed"] == sum(a and not b for a, b in zip(right, before, strict=True))
        assert counts["broken"] == sum(b and not a for a, b in zip(right, before, strict=True))
    assert fixed.all()


def test_students_take_turns_and_the_surest_come_first() -> None:
    right = {"a": np.array([1, 1, 1, 0, 1], dtype=bool), "b": np.array([0, 1, 0, 1, 1], dtype=bool)}
    control = {"a": np.array([0, 0, 0, 0, 1], dtype=bool), "b": np.array([0, 0, 1, 0, 0], dtype=bool)}
    confidence = {"a": np.array([0.5, 0.9, 0.7, 1, 1]), "b": np.array([1, 0.8, 1, 0.4, 0.6])}
    assert fixed_by(right, control, confidence, 24) == [1, 2, 4, 0, 3]  # a: 1, 2, 0; b: 1, 4, 3
    assert fixed_by(right, control, confidence, 2) == [1, 2]
    assert fixed_by(right, right, confidence, 24) == []
