"""Differences to the control, over seeds and over images."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import ALONE, write_answers, write_run, write_seeds

from codistill.errors import UserError
from codistill.evaluation.compare.differences import Difference, Measure, differences
from codistill.evaluation.compare.rows import Block, compare
from codistill.evaluation.compare.spreadsheet import COLUMNS, to_csv
from codistill.evaluation.compare.statistics import Interval, bootstrap, mcnemar, t_interval
from codistill.evaluation.compare.tables import brackets, escape_latex, latex, markdown, narrow_tables, tables

LABELS = [0, 1, 2, 0, 1, 2]
A, B = [0, 1, 2, 0, 0, 0], [0, 0, 2, 0, 1, 0]  # four right each
WEAK = [1, 1, 2, 1, 0, 0]  # two right
MEAN = Measure("students' mean")


def only_block(runs: list[Path]) -> Block:
    (block,) = compare(runs).blocks
    return block


def found(runs: list[Path], measure: Measure) -> Difference:
    (one,) = [own for own in differences(only_block(runs)) if own.measure == measure]
    return one


def test_differences_are_taken_seed_by_seed_of_those_seeds_that_both_have(tmp_path: Path) -> None:
    taught = write_seeds(tmp_path, "taught", [51.0, 53.0, 58.0, 99.0])
    alone = write_seeds(tmp_path, "alone", [50.0, 51.0, 52.0], method=ALONE)
    one = found([*taught, *alone[::-1]], MEAN)
    assert (one.row, one.against, one.seeds) == ("taught", "alone", [0, 1, 2])
    assert one.mean == 3.0
    assert one.t == t_interval([1.0, 2.0, 6.0])
    assert one.over_seeds == bootstrap([1.0, 2.0, 6.0])
    assert (one.images, one.over_images, one.mcnemar) == (0, None, [])


def test_rows_without_a_seed_in_common_have_no_difference(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 2, 2, seed=1), write_run(tmp_path / "alone", 1, 1, method=ALONE)]
    assert differences(only_block(runs)) == []


def test_no_difference_is_computed_between_blocks(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 2, 2, epochs=20), write_run(tmp_path / "alone", 1, 1, method=ALONE)]
    comparison = compare(runs)
    assert [differences(block) for block in comparison.blocks] == [[], []]
    assert "+1.00" not in markdown(tables(comparison))


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"epochs": 20}, "epochs"),
        ({"replanned": [{"until_step": 20, "epochs": 7}, {"until_step": 120, "epochs": 5}]}, "replanned"),
        ({"optimizer": {"lr": 0.2, "weight_decay": 5e-4}}, "optimizer.lr"),
        ({"data": {"name": "other"}}, "data.name"),
    ],
)
def test_the_row_that_was_asked_for_is_compared_with_whatever_the_terms_and_what_differs_is_said_beside_it(
    tmp_path: Path, changes: dict[str, Any], differs: str
) -> None:
    runs = [write_run(tmp_path / "taught", 2, 2, **changes), write_run(tmp_path / "alone", 1, 1, method=ALONE)]
    comparison = compare(runs)
    (shown,) = [table for table in tables(comparison, "alone") if "differences" in table.title]
    line = dict(zip(shown.header, shown.cells[2], strict=True))
    assert (line["run"], line["against"], line["differs in"]) == ("taught", "alone", differs)
    assert (line["accuracy of"], line["difference"]) == ("students' mean", "+1.00")
    assert "| taught | alone | " + differs + " |" in markdown(narrow_tables(comparison, "alone"))
    lines = list(csv.DictReader(io.StringIO(to_csv(comparison, "alone"))))
    assert {own["differs_in"] for own in lines if own["run"] == "taught"} == {differs}


def test_images_of_other_data_are_not_compared_one_by_one(tmp_path: Path) -> None:
    runs = pair_with_answers(tmp_path)
    write_run(tmp_path / "other", 50, 50, data={"name": "other"})
    write_answers(tmp_path / "other", LABELS[::-1], A, B)
    comparison = compare([*runs, tmp_path / "other"])
    named = next(row for row in comparison.rows if row.name == "other")
    found = [one for block in comparison.blocks for one in differences(block, named) if one.measure == MEAN]
    assert [(one.row, one.images) for one in found] == [("taught", 0), ("alone", 0)]


def test_a_title_names_the_plans_of_minutes_in_brief(tmp_path: Path) -> None:
    plans = [{"until_step": 20 * step, "epochs": 7 + step} for step in range(1, 7)]
    runs = [write_run(tmp_path / "minutes", 2, 2, replanned=plans), write_run(tmp_path / "epochs", 2, 2)]
    for titles in (tables(compare(runs)), narrow_tables(compare(runs))):
        assert titles[0].title == "Block 1 of 2: replanned=6 times, last at step 120"
    comparison = compare([*runs, write_run(tmp_path / "dml", 2, 2, batch_size=9, replanned=plans[:1])])
    assert "replanned=never" in comparison.rows[1].name or comparison.rows[1].settings["replanned"] == "default"
    assert "until_step" not in markdown(tables(comparison)) + to_csv(comparison)


def pair_with_answers(tmp_path: Path) -> list[Path]:
    runs = [write_run(tmp_path / "taught", 66.7, 66.7), write_run(tmp_path / "alone", 33.3, 66.7, method=ALONE)]
    write_answers(runs[0], LABELS, A, B)
    write_answers(runs[1], LABELS, WEAK, B)
    return runs


def test_images_are_compared_one_by_one(tmp_path: Path) -> None:
    runs = pair_with_answers(tmp_path)
    right, weak, same = (np.array(own) == np.array(LABELS) for own in (A, WEAK, B))
    student = found(runs, Measure("student", 0))
    assert student.images == 6
    assert student.mcnemar == [mcnemar(right, weak)] == [0.5]
    assert student.over_images == bootstrap(100.0 * (right.astype(float) - weak))
    mean = found(runs, MEAN)
    literal = [
        100.0 * ((int(r) + int(s)) / 2 - (int(w) + int(s)) / 2) for r, w, s in zip(right, weak, same, strict=True)
    ]
    assert mean.over_images == bootstrap(literal)
    assert mean.mcnemar == [], "the mean of two students is not simply right or wrong"
    assert found(runs, Measure("ensemble")).images == 6


def test_images_are_averaged_over_seeds_before_they_are_drawn(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"taught-seed{seed}", 1, 1, seed=seed) for seed in (0, 1)]
    runs += [write_run(tmp_path / f"alone-seed{seed}", 1, 1, seed=seed, method=ALONE) for seed in (0, 1)]
    for run, answers in zip(runs, (A, WEAK, WEAK, WEAK), strict=True):
        write_answers(run, LABELS, answers, B)
    one = found(runs, Measure("student", 0))
    right, weak = (np.array(own) == np.array(LABELS) for own in (A, WEAK))
    assert one.over_images == bootstrap(100.0 * (right.astype(float) - weak) / 2)
    assert one.mcnemar == [0.5, 1.0]


def test_answers_are_left_out_unless_all_runs_kept_them(tmp_path: Path) -> None:
    runs = pair_with_answers(tmp_path)
    (runs[1] / "outputs" / "test.safetensors").unlink()
    assert found(runs, MEAN).images == 0


def test_answers_to_other_images_are_refused(tmp_path: Path) -> None:
    runs = pair_with_answers(tmp_path)
    (runs[1] / "outputs" / "test.safetensors").unlink()
    (runs[1] / "outputs").rmdir()
    write_answers(runs[1], LABELS[::-1], A, B)
    with pytest.raises(UserError, match="were tested on other images"):
        differences(only_block(runs))


def test_damaged_answers_and_those_of_other_weights_are_named(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "taught", 1, 1, {"sha256": {"a": "0", "b": "0"}}),
        write_run(tmp_path / "x", 1, 1, method=ALONE),
    ]
    for run in runs:
        write_answers(run, LABELS, A, B, sha256={"a": "1", "b": "0"})
    with pytest.raises(UserError, match=r"taught/outputs/test.safetensors' holds the answers of other weights"):
        differences(only_block(runs))
    (runs[0] / "outputs" / "test.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"cannot be read: .* Delete it"):
        differences(only_block(runs))


def test_csv_reads_back_as_the_numbers_that_were_compared(tmp_path: Path) -> None:
    runs = [
        *write_seeds(tmp_path, "taught, a", [51.0, 53.5]),
        *write_seeds(tmp_path, "alone", [50.0, 51.0], method=ALONE),
    ]
    lines = list(csv.DictReader(io.StringIO(to_csv(compare(runs)))))
    assert tuple(lines[0]) == COLUMNS
    assert len(lines) == 2 * 4  # two students, their mean and the ensemble
    line = next(own for own in lines if own["run"] == "taught, a" and own["accuracy_of"] == "students' mean")
    assert [float(value) for value in line["values"].split(";")] == [51.0, 53.5]
    assert (float(line["mean"]), float(line["std"])) == pytest.approx((52.25, 1.7677669529663689))
    assert (line["against"], float(line["difference"]), line["weights"]) == ("alone", 1.75, "last")
    interval = t_interval([1.0, 2.5])
    assert interval is not None
    assert (float(line["t_low"]), float(line["t_high"])) == interval
    assert (line["images"], line["mcnemar_p"], line["bootstrap_images_low"]) == ("", "", "")


def test_the_table_shows_the_difference_of_the_mean_with_its_interval(tmp_path: Path) -> None:
    runs = [
        *write_seeds(tmp_path, "taught", [51.0, 53.0, 58.0]),
        *write_seeds(tmp_path, "alone", [50, 51, 52], method=ALONE),
    ]
    page = markdown(tables(compare(runs)))
    assert "mean minus without teaching" in page
    assert "+3.00 [-3.57, 9.57]" in page
    assert "| taught | alone (without teaching) | students' mean | 3 | +3.00 | [-3.57, 9.57] |" in page
    assert "mean minus taught" in markdown(tables(compare(runs), "taught"))


def test_both_controls_have_a_column_of_differences_and_columns_in_the_spreadsheet(tmp_path: Path) -> None:
    runs = [
        *write_seeds(tmp_path, "taught", [51.0, 53.0]),
        *write_seeds(tmp_path, "alone", [50, 51], method=ALONE),
        *write_seeds(tmp_path, "plain", [54, 57.5], method=ALONE, tasks=[[], []]),
    ]
    (table, *_) = tables(compare(runs))
    shown = dict(zip(table.header, table.cells[0], strict=True))
    assert shown["mean minus without teaching"].startswith("+1.50 [")
    assert shown["mean minus plain, at equal compute"].startswith("-3.75 [")
    lines = csv.DictReader(io.StringIO(to_csv(compare(runs))))
    line = next(own for own in lines if own["run"] == "taught" and own["accuracy_of"] == "students' mean")
    assert (line["against"], float(line["difference"])) == ("alone", 1.5)
    assert (line["plain_against"], float(line["plain_difference"])) == ("plain", -3.75)


def test_an_interval_without_width_is_not_printed(tmp_path: Path) -> None:
    runs = [
        *write_seeds(tmp_path, "taught", [47.3, 48.3]),
        *write_seeds(tmp_path, "alone", [50.3, 51.3], method=ALONE),
    ]
    text = markdown([*tables(compare(runs)), *narrow_tables(compare(runs))])
    assert "-3.00 " in text
    assert "[-3.00, -3.00]" not in text
    assert "2 seeds with the same difference, no interval" in text
    assert brackets(Interval(-3.001, -2.999)) == "", "they are written alike"


def test_a_student_that_is_called_teacher_or_run_keeps_a_column_of_its_own(tmp_path: Path) -> None:
    students = {"teacher": "resnet8", "run": "resnet8"}
    run = write_run(tmp_path / "taught", 71, 80, students=students)
    table = tables(compare([run]))[0]
    found = dict(zip(table.header, table.cells[0], strict=True))
    assert (found["run"], found["student teacher"], found["student run"]) == ("taught", "71.00", "80.00")


def test_latex_is_escaped_and_has_as_many_columns_everywhere(tmp_path: Path) -> None:
    runs = [*write_seeds(tmp_path, "50%_&_more", [51.0, 53.0]), *write_seeds(tmp_path, "alone", [50, 51], method=ALONE)]
    page = latex(tables(compare(runs), "50%_&_more"))
    assert r"50\%\_\&\_more & dml" in page
    assert r"52.00 $\pm$ 1.41" in page
    assert "$-$1.50" in page
    bodies = page.split(r"\begin{tabular}")[1:]
    assert len(bodies) == 2
    for body in bodies:
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        columns = len(body.split("{")[1].split("}")[0])
        assert {line.replace(r"\&", "").count("&") + 1 for line in lines} == {columns}
        assert [body.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_every_special_character_of_latex_is_made_harmless() -> None:
    assert escape_latex(r"a_b\c {1} $ & # % ^ ~ < > |") == (
        r"a\_b\textbackslash{}c \{1\} \$ \& \# \% \textasciicircum{} \textasciitilde{} "
        r"\textless{} \textgreater{} \textbar{}"
    )
    assert escape_latex("[1.00, 2.00]") == "{}[1.00, 2.00]"
    assert escape_latex("a-1 -1.5") == "a-1 $-$1.5"
