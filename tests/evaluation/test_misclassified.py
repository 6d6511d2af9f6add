"""``codistill analyse --wrong``: which files a student has wrong, and what it says of them."""

import csv
from pathlib import Path

import datasets
import numpy as np
import pytest
from cohorts import Silent
from odd_files import write_class_folders
from typer.testing import CliRunner

from codistill.cli.main import app
from codistill.config.schema import make_config
from codistill.metrics.probabilities import log_softmax
from codistill.metrics.raw import read_raw
from codistill.training import trainer


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    write_class_folders("data", count=20)
    config = {"students": {"a": "resnet8", "b": "resnet8"}, "tasks": "none", "batch_size": 8, "epochs": 1}
    trainer.train(make_config({**config, "data": "./data"}), Path("run"), Silent())
    return Path("run")


def test_every_image_that_a_student_has_wrong_is_told_with_its_file_the_worst_first(run: Path) -> None:
    result = CliRunner().invoke(app, ["analyse", str(run), "--wrong"])
    assert result.exit_code == 0, result.output
    lines = list(csv.DictReader(result.stdout.splitlines()))
    raw = read_raw(run, "test")
    wrong = np.any([raw.logits[name].argmax(axis=1) != raw.labels for name in "ab"], axis=0)
    assert len(lines) == wrong.sum() > 0
    for line in lines:
        file = Path("data", line["image"])
        assert file.is_file()
        assert file.parent.name == line["class"]
        assert line["class"] not in (line["a"], line["b"]) or line["a"] != line["b"]
    shares = [float(line["p(class) %"]) for line in lines]
    assert shares == sorted(shares)
    surest = max(float(line["a sure %"]) for line in lines)
    assert surest == pytest.approx(100 * np.exp(log_softmax(raw.logits["a"])[wrong].max()), abs=0.01)


def test_it_is_asked_of_one_run(run: Path) -> None:
    result = CliRunner().invoke(app, ["analyse", str(run), str(run), "--wrong"])
    assert "--wrong prints the images of one run" in str(result.exception)
