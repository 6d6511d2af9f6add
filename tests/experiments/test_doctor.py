"""That a resumed run goes on exactly, and that the doctor sees a difference where there is one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from codistill.cli.main import app
from codistill.config.recipe import load_config
from codistill.config.schema import make_config
from codistill.experiments import doctor
from codistill.storage import run_files
from codistill.storage.checkpoint import read, seal
from codistill.storage.run_dir import RunFolder
from codistill.training import trainer
from codistill.training.display import Silent


def test_a_killed_run_is_found_to_go_on_exactly_on_this_machine() -> None:
    done = CliRunner().invoke(app, ["doctor", "--resume-check"])
    assert done.exit_code == 0, done.output
    assert "Compared bit for bit" in done.output
    assert "OK The resumed run is the uninterrupted one." in done.output


def test_a_resume_that_is_not_exact_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunFolder.log

    def stopped(self: RunFolder, record: dict[str, Any]) -> None:
        if record["epoch"] == 3:
            raise KeyboardInterrupt
        log(self, record)

    def train_and_stop(recipe: Path, run: Path) -> None:  # without a process of its own, which takes seconds
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "log", stopped)
            with pytest.raises(KeyboardInterrupt):
                trainer.train(load_config(recipe), run, Silent())

    monkeypatch.setattr(doctor, "TINY", {**doctor.TINY, "epochs": 4})
    monkeypatch.setattr(doctor, "_train_and_kill", train_and_stop)
    assert doctor.check_resume()[1] is None
    monkeypatch.setattr(torch.optim.SGD, "load_state_dict", lambda self, state: None)  # momentum is not taken up
    done = CliRunner().invoke(app, ["doctor", "--resume-check"])
    assert done.exit_code == 1
    assert "Different: checkpoint: cohort.students.a.backbone" in done.output


def test_the_first_difference_between_two_runs_is_named(tmp_path: Path) -> None:
    one = tmp_path / "one"
    trainer.train(make_config({**doctor.TINY, "epochs": 1}), one, Silent())

    def copy(name: str) -> Path:
        return shutil.copytree(one, tmp_path / name)

    assert doctor.first_difference(one, copy("same")) is None

    weights = copy("weights")
    state = read(weights / "checkpoint.pt")
    state["cohort"]["students.a.classifier.bias"][3] += 1e-8
    state["training_seconds"] += 1
    (weights / "checkpoint.pt").write_bytes(seal(state))
    assert doctor.first_difference(one, weights) == "checkpoint: cohort.students.a.classifier.bias differs"

    metrics = copy("metrics")
    text = (metrics / "metrics.jsonl").read_text().splitlines(keepends=True)
    (metrics / "metrics.jsonl").write_text("".join(text[:-1]))
    assert doctor.first_difference(one, metrics) == f"metrics: {len(text) - 1}.kind is in one run only"

    summary = copy("summary")
    old = run_files.read_summary(one)["test_accuracy"]["ensemble"]
    text = (summary / "summary.json").read_text()
    (summary / "summary.json").write_text(text.replace(f'"ensemble": {old}', '"ensemble": 101.0'))
    assert doctor.first_difference(one, summary) in ("summary: test_accuracy.ensemble differs",)
