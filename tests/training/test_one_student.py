"""One student is trained plainly, and what reads a run takes it as it is: no peer, no ensemble, no control."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from cohorts import Silent
from interrupted import killed_after_step
from PIL import Image
from test_resume import weights
from typer.testing import CliRunner, Result

from codistill import UserError, evaluate_run, load_student
from codistill.cli.main import app
from codistill.config.schema import make_config
from codistill.evaluation.analyse import analyse_run
from codistill.evaluation.compare.controls import missing
from codistill.evaluation.compare.differences import measures
from codistill.evaluation.compare.rows import compare
from codistill.evaluation.report.page import make_page
from codistill.export import export
from codistill.storage.run_files import read_analysis, read_metrics, read_summary
from codistill.training import trainer
from codistill.training.resume import config_to_go_on
from codistill.training.trackers import accuracies

GIVEN: dict[str, Any] = {
    "students": ["resnet8"],
    "data": {"name": "digits", "per_class": 20},
    "batch_size": 40,
    "epochs": 2,
}


class Warned(Silent):
    """Keeps warnings and notes."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, analysed."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    trainer.train(GIVEN, folder, Silent())
    analyse_run(folder)
    return folder


def asked(*arguments: str) -> Result:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done


def test_one_student_is_trained_on_labels_alone_and_nothing_is_warned_of(tmp_path: Path) -> None:
    display = Warned()
    summary = trainer.train(GIVEN, tmp_path / "run", display)
    assert display.warnings == summary["warnings"] == []
    assert display.notes[1:] == ["Method independent, students resnet8 (no task)."]
    assert set(read_metrics(tmp_path / "run")[-1]["losses"]) == {"resnet8/ce", "total"}
    assert summary["parameters"]["training_only"] == 0


def test_one_student_may_have_a_task(tmp_path: Path) -> None:
    trainer.train({**GIVEN, "tasks": "jigsaw", "epochs": 1}, tmp_path / "run", Silent())
    assert set(read_metrics(tmp_path / "run")[-1]["losses"]) == {"resnet8/ce", "resnet8/jigsaw", "total"}


def test_its_accuracy_is_measured_again_without_an_ensemble(run: Path) -> None:
    accuracy, summary = evaluate_run(run)
    assert accuracy._asdict() == summary["test_accuracy"]
    assert (accuracy.teacher, accuracy.ensemble) == (None, None)
    for key in ("validation_accuracy", "test_accuracy_selected"):
        assert read_summary(run)[key]["ensemble"] is None
    assert set(accuracies("test", accuracy._asdict())) == {"test/resnet8"}
    printed = asked("evaluate", str(run)).output
    assert "student resnet8" in printed
    assert "Equal to the run's summary." in printed
    assert "ensemble" not in printed


def test_training_prints_no_ensemble_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = asked("train", "students=[resnet8]", "data.per_class=12", "batch_size=32", "epochs=1", "run=r").output
    assert "student resnet8" in printed
    assert "ensemble" not in printed


def test_it_predicts_and_is_exported_without_being_asked_for_by_name(run: Path, tmp_path: Path) -> None:
    exported = export(run, to="safetensors", out=tmp_path / "export")
    assert exported.facts["student"] == "resnet8"
    assert exported.facts["test_accuracy"]["exported"] == pytest.approx(
        read_summary(run)["test_accuracy"]["students"]["resnet8"]
    )
    card = (tmp_path / "export" / "README.md").read_text()
    assert "Peers" not in card
    assert "ensemble" not in card
    student, _ = load_student(run / "students" / "resnet8.safetensors")
    assert not student.training


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ensemble", r"Unknown network 'ensemble'. Choices: resnet8, best"),
        ("teacher", r"no teacher with an answer .* Choose a student \(resnet8\) or best\."),
        ("b", r"Unknown network 'b'. Choices: resnet8, best\.$"),
    ],
)
def test_it_is_no_ensemble_and_has_no_teacher_to_export(run: Path, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        export(run, name, to="torch", out=tmp_path / "export")


def test_its_predictions_are_printed(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    assert "white.png" in asked("predict", str(run), str(tmp_path / "white.png")).output


def test_a_comparison_has_no_ensemble_for_it_and_asks_for_no_control(run: Path) -> None:
    comparison = compare([run])
    (block,) = comparison.blocks
    assert missing(block) == []
    assert {measure.kind for measure in measures(block.rows)} == {"student", "students' mean"}
    printed = asked("compare", str(run))
    assert "ensemble" not in printed.output
    assert "control" not in printed.output.lower()


def test_it_is_compared_with_students_who_learned_together(run: Path, tmp_path: Path) -> None:
    pair = {**GIVEN, "students": ["resnet8", "resnet8"], "method": "dml", "tasks": "none"}
    trainer.train(pair, tmp_path / "two", Silent())
    comparison = compare([run, tmp_path / "two"])
    assert [row.last.ensemble is None for row in comparison.rows] == [True, False]
    assert comparison.differing_terms == ["students"]
    asked("compare", str(run), str(tmp_path / "two"))


def test_an_analysis_has_its_figures_and_none_of_pairs(run: Path) -> None:
    found = read_analysis(run)
    assert (found["ensemble"], found["teacher"], found["pairs"], found["advantages"]) == (None, None, {}, {})
    student = found["students"]["resnet8"]
    assert student["accuracy"] == pytest.approx(read_summary(run)["test_accuracy"]["students"]["resnet8"], abs=1e-3)
    assert student["effective_rank"] > 1
    assert student["alone_right"]["images"] == []
    printed = asked("analyse", str(run)).output
    assert "accuracy %" in printed
    for word in ("ensemble", "CKA", "KL(", "disagreement", "right for good"):
        assert word not in printed
    assert json.loads(asked("analyse", str(run), "--json").output)[str(run)]["pairs"] == {}


def test_its_wrong_images_are_listed(run: Path) -> None:
    assert asked("analyse", str(run), "--wrong").output.startswith("image,class,p(class) %,resnet8,resnet8 sure %")


def test_a_page_tells_of_one_student_and_of_no_other(run: Path, tmp_path: Path) -> None:
    page = make_page(shutil.copytree(run, tmp_path / "alone"))
    assert f"One student alone: {read_summary(run)['test_accuracy']['students']['resnet8']:.2f} %" in page.html
    shown = re.sub(r"<(style|script)\b.*?</\1>", "", page.html, flags=re.DOTALL)
    for word in ("ensemble", "disagreement", "needs a control", "taught", "each student alone"):
        assert word not in shown
    assert [figure.title for figure in page.figures if "calibration" in figure.name] == ["resnet8"]


def test_what_it_would_cost_is_planned_and_timed() -> None:
    found = json.loads(asked("plan", "data=synthetic", "data.image_size=16", "students=[resnet8]", "--json").output)
    assert list(found["students"]) == ["resnet8"]
    assert found["training_only_parameters"] == 0
    assert found["measured"]["images_per_second"] > 0


def test_an_interrupted_run_of_one_student_goes_on(tmp_path: Path) -> None:
    trainer.train(GIVEN, tmp_path / "whole", Silent())
    with killed_after_step(4):
        trainer.train(make_config({**GIVEN, "save_minutes": 1e-9}), tmp_path / "run", Silent())
    trainer.train(config_to_go_on(tmp_path / "run", {}), tmp_path / "run", Silent(), resume=True)
    one, other = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all((one[name] == other[name]).all() for name in one)
