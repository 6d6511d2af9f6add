"""A user's own backbone, named by module and function."""

import re
from pathlib import Path
from typing import Any

import pytest
from cohorts import Silent
from PIL import Image

from codistill import UserError, load_student
from codistill.config.schema import make_config
from codistill.errors import TrainingEnded
from codistill.export import export
from codistill.export.predictor import open_predictor
from codistill.models import make_backbone
from codistill.training import restore, trainer

NETS = """
from torch import nn
from codistill.models import Staged

def make(*, width=8):
    return Staged(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, width, 3, 2, 1), width=width)

class Undecided(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def undecided():
    return Staged(nn.Conv2d(3, 4, 3, 2, 1), Undecided(), width=4)

class Other(nn.Module):
    head_hidden_size = 5

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward_intermediates(self, x, *, output_fmt):
        maps = {"tokens": [x.flatten(2).transpose(1, 2)], "none": [], "square": [x]}[self.maps]
        return x, maps

    def forward_head(self, x):
        return x[..., :5] if self.maps == "square" else x.flatten(1)[:, :5]

def other(*, maps):
    return Other(maps)

def plain():
    return nn.Linear(2, 3)

def nothing():
    return None

PI = 3.14
"""


GIVEN: dict[str, Any] = {
    "students": [{"name": "own_nets:make", "width": 12}, "resnet8"],
    "tasks": "none",
    "method": "dml",
    "data": {"name": "digits", "per_class": 4},
    "batch_size": 20,
    "epochs": 1,
}


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets.py").write_text(NETS)
    (tmp_path / "broken_nets.py").write_text("import there_is_no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no_nets_at_all:make", "module 'no_nets_at_all' cannot be imported: No module named 'no_nets_at_all'"),
        ("broken_nets:make", "cannot be imported: No module named 'there_is_no_such_module'"),
        ("own_nets:make_it", "'own_nets' has no 'make_it'"),
        ("own_nets:PI", "should be a class or a function, is a float"),
        ("own_nets:nothing", "should make a torch.nn.Module, made a NoneType"),
        ("own_nets:plain", "makes a Linear that lacks forward_intermediates, forward_head, head_hidden_size"),
        ({"name": "own_nets:make", "depth": 3}, "does not take these settings: got an unexpected .* 'depth'"),
    ],
)
def test_what_makes_no_backbone_is_explained(model: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_backbone(model)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ("tokens", r"Model 'own_nets:other': Stage map 0 of Other.forward_intermediates should be .* \(1, 64, 3\)"),
        ("none", "Model 'own_nets:other': Other.forward_intermediates gives no stage maps"),
        ("square", r"Other.forward_head should give \(B, D\), gives \(1, 3, 8, 5\)"),
    ],
)
def test_a_backbone_whose_outputs_have_other_shapes_is_told_which(maps: str, message: str, tmp_path: Path) -> None:
    students = [{"name": "own_nets:other", "maps": maps}, "resnet8"]
    with pytest.raises(UserError, match=message):
        trainer.train(make_config({**GIVEN, "students": students}), tmp_path / "run")


def test_a_student_of_ones_own_is_exported_and_predicts_for_who_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, made = tmp_path / "run", tmp_path / "made"
    trainer.train(make_config(GIVEN), run, Silent())
    assert export(run, to="safetensors", student="own_nets_make", out=made).facts["parity"]["equal_answers"] == 100.0
    for place in (run, made):
        student = None if place == made else "own_nets_make"
        with pytest.raises(UserError, match="Loading it runs that function: if you trust the file, add --trust"):
            open_predictor(place, student)
        assert open_predictor(place, student, trust=True).class_names == list("0123456789")
    monkeypatch.chdir(made)
    Image.new("RGB", (8, 8)).save("image.png")
    exec(re.search(r"```python\n(.*?)```", (made / "README.md").read_text(), re.DOTALL)[1], {})  # type: ignore[index]
    assert capsys.readouterr().out.strip() in list("0123456789")


def test_a_student_that_makes_no_graph_trains_without_compiling_and_is_told_so_with_it(tmp_path: Path) -> None:
    given = {**GIVEN, "students": ["own_nets:undecided", "resnet8"]}
    trainer.train(make_config(given), tmp_path / "eager", Silent())
    with pytest.raises(TrainingEnded, match=r"(?i)branching.*--resume .* compile=false"):
        trainer.train(make_config({**given, "compile": True}), tmp_path / "compiled", Silent())


def test_a_student_of_ones_own_trains_and_is_loaded_by_who_trusts_the_file(tmp_path: Path) -> None:
    run = tmp_path / "run"
    summary = trainer.train(make_config(GIVEN), run, Silent())
    assert list(restore.read_run_config(run).students) == ["own_nets_make", "resnet8"]
    assert restore.evaluate_run(run)[0]._asdict() == summary["test_accuracy"]
    file = run / "students" / "own_nets_make.safetensors"
    with pytest.raises(UserError, match=r"of the factory 'own_nets:make'. Loading it runs that function"):
        load_student(file)
    student, facts = load_student(file, run_factory=True)
    assert student.classifier.in_features == 12
    assert facts["model"] == {"name": "own_nets:make", "width": 12}
