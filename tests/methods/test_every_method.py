"""One table drives every method through training, evaluation, a checkpoint and a resumed run."""

from pathlib import Path

import pytest
import torch
from backbones import PlainCNN
from cohorts import MIXED_SETTINGS, Silent
from interrupted import killed_after_an_epoch

from codistill import UserError
from codistill.config.schema import make_config
from codistill.methods import METHODS
from codistill.models import MODELS
from codistill.training import restore, trainer

COHORTS = {
    "two equal": {"a": "resnet8", "b": "resnet8"},
    "two widths": {"a": "resnet8", "b": "plain"},
    "three": {"a": "resnet8", "b": "resnet8", "c": "resnet8"},
}


@pytest.mark.parametrize("students", COHORTS.values(), ids=COHORTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_is_evaluated_saved_and_resumed_exactly(
    method: str, students: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "plain", PlainCNN)
    config = make_config(
        {
            "students": students,
            "tasks": ["rotation"] + ["none"] * (len(students) - 1),
            "method": {"name": method, **(MIXED_SETTINGS.get(method, {}) if "plain" in students.values() else {})},
            "data": {"name": "digits", "per_class": 4},
            "batch_size": 20,
            "epochs": 2,
        }
    )
    if method == "okddip" and len(students) < 3:
        with pytest.raises(UserError, match=r"three students|at least 3|3 students"):
            trainer.train(config, tmp_path / "whole", Silent())
        return
    summary = trainer.train(config, tmp_path / "whole", Silent())
    assert set(summary["test_accuracy"]["students"]) == set(students)

    with killed_after_an_epoch():
        trainer.train(config, tmp_path / "resumed", Silent())
    trainer.train(config, tmp_path / "resumed", Silent(), resume=True)
    whole, resumed = (torch.load(tmp_path / name / "checkpoint.pt")["cohort"] for name in ("whole", "resumed"))
    torch.testing.assert_close(resumed, whole, atol=0, rtol=0)
    accuracy, _ = restore.evaluate_run(tmp_path / "resumed")
    assert accuracy._asdict() == summary["test_accuracy"]
