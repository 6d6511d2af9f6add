"""The best student is the best on validation images, whatever the test images say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import make_batch, make_cohort

from codistill import UserError
from codistill.export.network import network_of
from codistill.export.select import choose_student
from codistill.methods import METHODS
from codistill.training.evaluate import mean_probability


def run_with(folder: Path, validation: dict[str, float] | None) -> Path:
    (folder / "config.yaml").write_text("students: {a: resnet8, b: resnet8}\ntasks: []\nmethod: {name: dml}\nseed: 0\n")
    summary: dict[str, Any] = {
        "test_accuracy": {"students": {"a": 90.0, "b": 10.0}, "teacher": None, "ensemble": 50.0},
        "validation_accuracy": validation and {"students": validation, "teacher": None, "ensemble": 0.0},
        "parameters": {"students": {}, "training_only": 0},
        "seconds": 1,
        "seed": 0,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_the_best_is_chosen_by_validation_accuracy_not_by_test(tmp_path: Path) -> None:
    chosen = choose_student(run_with(tmp_path, {"a": 60.0, "b": 70.5}), "best")
    assert chosen.name == "b"
    assert chosen.why == "the best by validation accuracy (a 60.00 %, b 70.50 %)"
    assert choose_student(tmp_path, "a").name == "a"


def test_without_validation_images_the_student_must_be_named(tmp_path: Path) -> None:
    run_with(tmp_path, None)
    with pytest.raises(UserError, match="test images are not for choosing: name the student, one of a, b"):
        choose_student(tmp_path, "best")
    assert choose_student(tmp_path, "a").name == "a"


def test_without_validation_images_there_is_no_best_epoch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="had no validation images, which choose the best epoch: leave out"):
        choose_student(run_with(tmp_path, None), "a", "best")


def test_an_unknown_student_is_told_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown student of run '.*' 'c'. Choices: a, b, best"):
        choose_student(run_with(tmp_path, None), "c")


@pytest.mark.parametrize("method", METHODS)
def test_what_is_exported_answers_as_the_cohort_does_for_every_method(method: str) -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "resnet8", "c": "resnet8"}, method=method)
    images = make_batch().images
    with torch.inference_mode():
        said = cohort.eval().predict(images)
        for name in [*cohort.students, *cohort.answering_teachers[:1]]:
            if name != "ensemble":  # a teacher of that name is asked for as the teacher
                torch.testing.assert_close(network_of(cohort, name, method)(images), said[name])
        if cohort.answering_teachers:
            answer = network_of(cohort, "teacher", method)(images)
            torch.testing.assert_close(answer, said[cohort.answering_teachers[0]])
        ensemble = network_of(cohort, "ensemble", method)(images).softmax(1)
        torch.testing.assert_close(ensemble, mean_probability(said[name] for name in cohort.students))


def test_a_method_without_a_teacher_that_answers_has_none_to_export() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, method="dml")
    for name in ("cpm", "teacher"):
        with pytest.raises(UserError, match=rf"'dml' has no teacher .* no '{name}' .*\(a, b\), best or ensemble"):
            network_of(cohort, name, "dml")


def test_the_name_of_another_methods_teacher_is_unknown_and_its_own_is_told() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, method="ffl")
    with pytest.raises(UserError, match=r"Unknown network 'cpm'\. Choices: a, b, best, ensemble, fusion"):
        network_of(cohort, "cpm", "ffl")
