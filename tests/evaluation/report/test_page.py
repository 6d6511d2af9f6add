"""The page about a run or a folder of runs: what it says, and that it can be trusted with other people's names."""

import html as entities
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from told_runs import finish, trained, write_run

from codistill.cli import report as command
from codistill.errors import UserError
from codistill.evaluation.compare.differences import differences
from codistill.evaluation.compare.rows import compare
from codistill.evaluation.report import figures_final, palette
from codistill.evaluation.report.drawing import spread
from codistill.evaluation.report.page import Page, make_page, write_figures, write_page
from codistill.storage.run_files import read_analysis

HOSTILE = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """Counts what a browser would see: tags, attributes that could run something, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", Tags(html).text)


def add_to_config(run: Path, line: str) -> None:
    config = run / "config.yaml"
    config.write_text(f"{config.read_text()}{line}\n")


def change_weights(run: Path) -> None:
    """The run's students are others than those whose answers lie in its folder."""
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "sha256": {"a": "0" * 64, "b": "0" * 64}}))


def answered(folder: Path, method: str = "collaborative", **kinds: Any) -> Path:
    """A run that kept its answers, and nothing that would take long to be drawn."""
    run = write_run(folder, method, analysed=True, logged=False, **kinds)
    (run / "analysis.json").unlink()
    return run


def calibrated(folder: Path, students: tuple[str, ...]) -> Page:
    """Only the figures of calibration."""
    run = write_run(folder, students=students, tasks=[None] * len(students), analysed=True)
    return Page("", figures_final.calibration("run", read_analysis(run)), training=False)


def headline_of(folder: Path) -> str:
    found = re.search("<h1>(.*?)</h1>", make_page(folder).html)
    assert found
    return entities.unescape(found[1])


def gains_of(html: str, row: str) -> dict[str, str]:
    """The cells of one row of the table of gains, by their heads."""
    table = next(
        own
        for own in re.findall(r"<table.*?</table>", html, re.DOTALL)
        if "minus the control" in entities.unescape(own)
    )
    heads = [entities.unescape(own) for own in re.findall(r'<th scope="col">(.*?)</th>', table)]
    found = next(own for own in re.findall(r"<tr>.*?</tr>", table) if f'<th scope="row">{row}</th>' in own)
    return dict(zip(heads, re.findall(r"<td[^>]*>(.*?)</td>", found), strict=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds alone, with tasks, and three together; the first of each analysed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, gain in enumerate((1.0, 2.0, 3.0)):
        write_run(folder / f"alone{seed}", "independent", accuracy=50 + seed, seed=seed, analysed=seed == 0)
        write_run(folder / f"together{seed}", accuracy=50 + seed + gain, seed=seed, analysed=seed == 0)
    return folder


@pytest.fixture(scope="module")
def page(runs: Path) -> str:
    """The page of the folder: drawing it takes seconds, and most tests only read it."""
    return make_page(runs).html


@pytest.fixture(scope="module")
def of_one_run(runs: Path) -> Page:
    return make_page(runs / "together0")


def test_a_difference_whose_interval_spans_zero_is_no_gain(page: str) -> None:
    # t(2) is 4.303; the deviation of 1, 2, 3 is 1
    interval = "(95 % CI \N{MINUS SIGN}0.48 to +4.48)"
    who, control = "Students that learned together", "the same training without teaching"
    assert f"<h1>{who}: no significant difference to {control} {interval}</h1>" in page
    text = text_of(page)
    assert (
        "+2.00 points, 95 % CI \N{MINUS SIGN}0.48 to +4.48 (3 seeds). The control is alone: method independent" in text
    )
    assert "Whether plain training, without tasks, would end higher is not known" in text
    assert "gained" not in text


def test_one_run_finds_its_control_beside_it_and_says_that_one_seed_is_little(runs: Path) -> None:
    text = text_of(make_page(runs / "together1").html)
    assert "ended 2.00 points above the same training without teaching, in one seed" in text
    assert "one seed, no interval" in text


def test_one_seed_with_saved_answers_has_an_interval_over_images(of_one_run: Page) -> None:
    assert "(one seed; over 60 test images only)" in text_of(of_one_run.html)


def test_without_a_control_the_page_says_so_and_how_to_make_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "together")
    text = text_of(make_page(run).html)
    assert "The students reach 60.00 % on average" in text
    assert "Without a control it is not known what plain training would reach." in text
    assert f"method=independent tasks=none seed=0 run={run}_plain-seed0" in text
    assert f"codistill train {run}/config.yaml method=independent seed=0 run={run}_alone-seed0" in text


def test_the_headline_speaks_of_plain_training_also_where_there_is_a_control_with_the_same_tasks(
    tmp_path: Path,
) -> None:
    write_run(tmp_path / "b-with", "independent", accuracy=55, logged=False)
    run = write_run(tmp_path / "together", accuracy=60, logged=False)
    assert "ended 5.00 points above the same training without teaching" in headline_of(run)
    write_run(tmp_path / "a-without", "independent", accuracy=40, tasks=(None, None), logged=False)
    text = text_of(make_page(run).html)
    assert "ended 20.00 points above plain training at equal compute, in one seed" in text  # of as many seconds
    assert "Against b-with (without teaching): +5.00 points" in text


def write_costly(folder: Path, passes: float, method: str = "collaborative", **kinds: Any) -> Path:
    """A run of so many forward passes a step."""
    run = write_run(folder, method, logged=False, **kinds)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "forward_passes": {"a": passes, "b": passes}}))
    return run


def test_a_default_that_ends_below_plain_training_at_equal_compute_is_said_to(tmp_path: Path) -> None:
    """Though it ends above the control without teaching, which has the task that hurt."""
    write_costly(tmp_path / "control", 1.25, "independent", accuracy=47.3, epochs=20)
    write_costly(tmp_path / "default", 1.25, accuracy=50.3, epochs=20)
    write_costly(tmp_path / "plain", 1, "independent", accuracy=54.4, epochs=25, tasks=(None, None))
    page = make_page(tmp_path)
    text = text_of(page.html)
    assert "ended 4.10 points below plain training at equal compute, in one seed" in text
    assert "The control is plain: method independent, no tasks, 25 epochs." in text
    assert "Against control (without teaching): +3.00 points" in text
    assert {"minus_plain", "minus_without_teaching"} <= {figure.name for figure in page.figures}
    assert "No control of" not in text


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [
        ([55.0, 57.1, 56.1], "ended 2.07 points above plain training at equal compute"),
        ([52.0, 53.9, 52.8], "ended 1.10 points below plain training at equal compute"),
        ([54.0, 57.0, 53.0], "no significant difference to plain training at equal compute (95 % CI"),
    ],
)
def test_the_headline_speaks_of_plain_training_and_is_sure_of_what_the_interval_says(
    tmp_path: Path, accuracies: list[float], says: str
) -> None:
    for seed, (accuracy, plain) in enumerate(zip(accuracies, (53.0, 55.0, 54.0), strict=True)):
        write_costly(tmp_path / f"default{seed}", 1.25, accuracy=accuracy, seed=seed)
        kinds = {"accuracy": plain, "seed": seed, "epochs": 5, "tasks": (None, None)}
        write_costly(tmp_path / f"plain{seed}", 1, "independent", **kinds)
    assert says in headline_of(tmp_path)


def test_plain_training_at_equal_compute_comes_before_a_higher_gain_over_plain_training_that_cost_less(
    tmp_path: Path,
) -> None:
    write_costly(tmp_path / "plain", 1, "independent", accuracy=55, tasks=(None, None))
    write_costly(tmp_path / "dml", 1, "dml", accuracy=56, tasks=(None, None))
    write_costly(tmp_path / "costly", 4, accuracy=60)
    assert headline_of(tmp_path) == "dml ended 1.00 points above plain training at equal compute, in one seed"
    shutil.rmtree(tmp_path / "dml")
    control = "plain training for the same epochs, with 4.00 x its forward passes"
    assert headline_of(tmp_path) == f"Students that learned together ended 5.00 points above {control}, in one seed"


def test_two_seeds_with_one_difference_are_told_without_an_interval(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"together{seed}", accuracy=50.3 + seed, seed=seed, logged=False)
        write_run(tmp_path / f"alone{seed}", "independent", accuracy=53.3 + seed, seed=seed, logged=False)
    html = make_page(tmp_path).html
    assert "ended 3.00 points below the same training without teaching, in 2 seeds" in html
    assert "(2 seeds with the same difference, no interval)" in html
    assert "\N{MINUS SIGN}3.00 to" not in html


def test_a_folder_of_unrelated_runs_has_a_neutral_headline_and_a_subtitle_that_is_true_of_all(tmp_path: Path) -> None:
    write_run(tmp_path / "plain", "independent", accuracy=90, tasks=(None, None), logged=False)
    write_run(tmp_path / "three", "dml", students=("x", "y", "z"), tasks=[None] * 3, epochs=9, logged=False)
    add_to_config(write_run(tmp_path / "photos", logged=False), "batch_size: 7")
    text = text_of(make_page(tmp_path).html)
    assert "3 runs, in 3 groups that do not compete" in text
    assert "The groups differ in batch_size, epochs and students." in text
    assert "3 runs · dml, collaborative, independent · 2 sets of students · digits · 4 to 9 epochs" in text.replace(
        "collaborative, independent, dml", "dml, collaborative, independent"
    )


def test_runs_without_teaching_are_not_said_to_lack_a_control(tmp_path: Path) -> None:
    write_run(tmp_path / "task", "independent", accuracy=60, logged=False)
    plain = write_run(tmp_path / "plain", "independent", accuracy=61, tasks=(None, None), logged=False)
    for folder in (plain, tmp_path):
        text = text_of(make_page(folder).html)
        assert "ontrol it is not known" not in text
        assert "No control" not in text
        assert "61.00 %" in text
    assert headline_of(tmp_path) == "Highest of 2 rows: plain, 61.00 %"


def test_warnings_of_all_seeds_of_a_row_are_on_its_page(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run{seed}", seed=seed, logged=False) for seed in (0, 1)]
    summary = json.loads((runs[1] / "summary.json").read_text())
    (runs[1] / "summary.json").write_text(json.dumps({**summary, "warnings": ["All images are grey."]}))
    text = text_of(make_page(tmp_path).html)
    assert "Epoch 2: student 'a' answers 'cat' for all images. run1: All images are grey." in text


def test_rows_of_one_method_and_tasks_are_told_apart_by_what_their_runs_are_called(tmp_path: Path) -> None:
    write_run(tmp_path / "alone", "independent")
    for name, temperature in (("warm", 3.0), ("cold", 1.0)):
        write_run(tmp_path / name, accuracy=61, settings={"temperature": temperature})
    write_run(tmp_path / "longer", "independent", epochs=8)
    page = make_page(tmp_path)
    assert "4 to 8 epochs" in text_of(page.html)
    gains = next(figure for figure in page.figures if figure.name == "minus_without_teaching")
    assert "warm +1.00 points" in gains.alt
    assert "cold +1.00 points" in gains.alt


def test_a_step_that_costs_more_than_its_controls_is_said_to(tmp_path: Path) -> None:
    write_costly(tmp_path / "alone", 1, "independent")
    write_costly(tmp_path / "together", 2.5, accuracy=61)
    assert "above the same training without teaching, with 2.50 x its forward passes, in one seed" in text_of(
        make_page(tmp_path).html
    )


def test_a_run_on_other_terms_or_of_another_seed_is_no_control(tmp_path: Path) -> None:
    write_run(tmp_path / "shorter", "independent", epochs=3, logged=False)
    write_run(tmp_path / "other-seed", "independent", seed=1, logged=False)
    run = write_run(tmp_path / "together", logged=False)
    for folder in (run, tmp_path):
        text = text_of(make_page(folder).html)
        assert "Without a control" in text
        assert f"codistill train {run}/config.yaml method=independent" in text


def test_a_control_that_trained_longer_is_said_to(tmp_path: Path) -> None:
    write_run(tmp_path / "alone", "independent", epochs=9, logged=False)
    run = write_run(tmp_path / "together", accuracy=61, logged=False)
    text = text_of(make_page(run).html)
    how = "at equal compute"  # in as many seconds
    assert f"ended 1.00 points above the same training without teaching, {how}, in one seed" in text
    assert "The control is alone: method independent, tasks rotation, supcon, 9 epochs." in text
    write_run(tmp_path / "b-alone", "independent", accuracy=59, logged=False)
    text = text_of(make_page(run).html)
    assert "ended 2.00 points above the same training without teaching, in one seed" in text


def test_the_page_tells_the_gains_that_compare_tells(tmp_path: Path) -> None:
    """Of one seed, of each student and of the ensemble, with their intervals."""
    students = ("ensemble", "b")
    pair = [answered(tmp_path / "alone", "independent", students=students)]
    pair.append(answered(tmp_path / "together", accuracy=61.5, students=students))
    (block,) = compare(pair).blocks
    told = gains_of(make_page(tmp_path).html, "collaborative")
    assert list(told)[:4] == ["minus", "students' mean", "student ensemble", "b"]
    assert "ensemble" in told
    for one in differences(block):
        if one.measure.kind != "teacher":
            assert one.over_images is not None
            shown = told[one.measure.label(["ensemble", "b"])]
            numbers = [float(own) for own in re.findall(r"[+-]?\d+\.\d+", shown.replace("\N{MINUS SIGN}", "-"))]
            assert numbers == pytest.approx([one.mean, *one.over_images], abs=0.0051)


def test_answers_of_other_weights_give_no_interval(tmp_path: Path) -> None:
    answered(tmp_path / "alone", "independent")
    run = answered(tmp_path / "together", accuracy=61)
    assert "one seed; over 60 test images only" in text_of(make_page(run).html)
    change_weights(run)
    for folder in (run, tmp_path):
        text = text_of(make_page(folder).html)
        assert "over 60 test images" not in text
        assert "together/outputs/test.safetensors' holds the answers of other weights" in text
        assert f"make it anew: codistill analyse {run}" in text


def test_a_control_in_another_order_of_images_is_one_where_there_is_no_other(tmp_path: Path) -> None:
    add_to_config(write_run(tmp_path / "alone", "independent", logged=False), "order: shuffled")
    run = write_run(tmp_path / "pairs", "mcl", accuracy=61, logged=False)
    add_to_config(run, "order: class_pairs")
    assert "ended 1.00 points above the same training without teaching" in make_page(run).html


def test_seeds_on_other_devices_are_one_row_and_one_part_of_the_page(tmp_path: Path) -> None:
    for seed, device in enumerate(("cpu", "cuda")):
        add_to_config(write_run(tmp_path / f"alone{seed}", "independent", seed=seed, logged=False), f"device: {device}")
        add_to_config(
            write_run(tmp_path / f"together{seed}", accuracy=61, seed=seed, logged=False), f"device: {device}"
        )
    html = make_page(tmp_path).html
    assert re.findall(r"<summary>([^<]*)<", html) == ["together0", "All of config.yaml", "alone0", "All of config.yaml"]
    assert "(2 seeds with the same difference, no interval)" in html


def test_runs_that_go_on_are_parts_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "run0", logged=False)
    for seed in (1, 2):
        write_run(tmp_path / f"run{seed}", seed=seed, done=seed, logged=False)
    html = make_page(tmp_path).html
    assert [name for name in re.findall(r"<summary>([^<]*)<", html) if name != "All of config.yaml"] == [
        *("run0", "run1", "run2")
    ]


def test_what_lies_beside_a_run_does_it_no_harm(tmp_path: Path) -> None:
    """Copies, what no run wrote, and runs on other images."""
    run = write_run(tmp_path / "together", accuracy=61, logged=False)
    for name in ("alone", "copy"):
        write_run(tmp_path / name, "independent", logged=False)
    write_run(tmp_path / "later", "independent", accuracy=30, logged=False)
    later = tmp_path / "later" / "summary.json"
    later.write_text(later.read_text().replace('"train": 100', '"train": 90'))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "summary.json").write_text("nonsense")
    assert "ended 1.00 points above the same training without teaching" in make_page(run).html


def test_every_section_is_filled_from_a_whole_run(of_one_run: Page) -> None:
    text = text_of(of_one_run.html)
    names = {figure.name for figure in of_one_run.figures}
    parts = "accuracy weighted_shares loss_a loss_b loss_cpm richness cka disagreement class_gains calibration_a"
    assert {f"together0_{part}" for part in parts.split()} <= names
    assert len(names) == len(of_one_run.figures)
    assert "Test images that only the student has right (fixed)" in text
    assert "peak memory, MiB 512" in text
    assert "Epoch 2: student 'a' answers 'cat' for all images." in text
    assert "students: a: resnet8" in text  # config.yaml
    assert "a: dog → cat" in text
    assert of_one_run.html.count("<img ") == 6 * 5 + 8  # of each example the image and two maps of two students
    assert "codistill analyse" not in text.replace("analysis codistill analyse", "")  # nothing is missing


def test_what_is_missing_names_the_command_that_fills_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", weights=False)
    text = text_of(make_page(run).html)
    assert f"It needs the run's analysis. codistill analyse {run}" in text
    assert "did not log its weights" in text


def test_an_unfinished_run_has_its_curves_and_loads_itself_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", done=2)
    with trained(run):
        page = make_page(run, refresh=7)
    assert page.training
    assert '<meta http-equiv="refresh" content="7">' in page.html
    assert "Training goes on: 2 of 4 epochs done." in page.html
    assert any(figure.name.endswith("_accuracy") for figure in page.figures)
    assert f"codistill train --resume {run}" not in page.html, "it is locked"
    finish(run)
    assert 'http-equiv="refresh"' not in make_page(run, refresh=7).html


@pytest.mark.parametrize("done", [0, 1])
def test_a_run_that_has_hardly_begun_has_a_page(tmp_path: Path, done: int) -> None:
    run = write_run(tmp_path / "run", done=done)
    with trained(run):
        assert f"Training goes on: {done} of 4 epochs done." in make_page(run).html


def test_a_run_that_a_signal_ended_is_not_running_and_is_told_with_the_command_that_goes_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", done=2)
    with trained(run):
        pass  # until its process ended: the file of the lock stays
    page = make_page(run, refresh=7)
    assert not page.training
    text = text_of(page.html)
    assert "Training was stopped: 2 of 4 epochs done." in text
    assert f"'run' was stopped: 2 of 4 epochs done. codistill train --resume {run}" in text
    assert "running" not in text
    assert 'http-equiv="refresh"' not in page.html


def test_a_folder_says_how_many_of_its_runs_are_training(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run{seed}", seed=seed, done=seed, logged=False) for seed in (1, 2)]
    with trained(runs[0]):
        page = make_page(tmp_path)
    assert page.training
    text = text_of(page.html)
    assert "None of 2 runs is finished; 1 is training." in text
    assert re.findall(r"<small>([^<]*)</small>", page.html) == [
        "collaborative, seed 1, running",
        "collaborative, seed 2, stopped",
    ]


def test_watching_ends_when_nothing_trains_any_more(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", done=2, logged=False)
    command.report(run, watch=True, every=1000)
    assert "was stopped" in (run / "report.html").read_text()


def test_a_finished_run_whose_epochs_are_not_beside_it_is_not_said_to_have_just_begun(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    text = text_of(make_page(run).html)
    assert text.count("The run is finished, but its metrics.jsonl is not in its folder, so no curves.") == 2
    assert "No epoch is done yet" not in text


def test_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    students, classes = (HOSTILE, "b\"onload='x'"), (HOSTILE, "$x^$", "</svg><img src=x onerror=alert(1)>")
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    write_run(folder / "alone", "independent", students=students, classes=classes, analysed=True)
    write_run(folder / "<b onclick=x>", students=students, classes=classes, analysed=True)
    page = make_page(folder)
    found = Tags(page.html)
    assert found.tags.count("script") == 1  # ours
    assert not found.handlers
    assert "b" not in found.tags[found.tags.index("main") :]
    assert HOSTILE not in page.html.split("</style>")[1].rsplit("<script>", 1)[0]
    assert HOSTILE in found.text  # it is shown all the same
    for figure in page.figures:
        ElementTree.fromstring(figure.svg.replace("xlink:", ""))
        assert "/" not in figure.name


def test_a_page_needs_no_network(page: str) -> None:
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)|url\(["']?([^)#][^)]*)|@import""", page)
    assert all(address.startswith("data:") for pair in addresses for address in pair if address)


def test_figures_are_saved_as_svg_and_png(runs: Path, tmp_path: Path) -> None:
    page = make_page(runs / "alone0")
    assert write_figures(page, tmp_path / "figures") == len(page.figures) > 5
    files = sorted((tmp_path / "figures").iterdir())
    assert len(files) == 2 * len(page.figures)
    assert all(file.read_bytes().startswith(b"\x89PNG" if file.suffix == ".png" else b"<?xml") for file in files)


def test_figures_of_any_names_are_files_of_their_own_also_where_case_is_not_told(tmp_path: Path) -> None:
    page = calibrated(tmp_path / "run", ("a b", "a_b", "A_b", "ensemble"))
    count = write_figures(page, tmp_path / "figures")
    files = {file.name.lower() for file in (tmp_path / "figures").iterdir()}
    assert len(files) == 2 * count
    assert {f"run_calibration_{name}.svg" for name in ("a_b", "a_b_2", "a_b_3", "ensemble")} <= files


def test_a_student_is_drawn_as_a_student_whatever_its_name_is(tmp_path: Path) -> None:
    page = calibrated(tmp_path / "run", ("old teacher 1", "ensemble"))
    colours = {figure.title: re.findall(r"--(s\d|teacher|ensemble)", figure.svg)[0] for figure in page.figures}
    assert colours == {"old teacher 1": "s1", "student ensemble": "s2", "teacher": "teacher", "ensemble": "ensemble"}


def test_the_same_run_gives_the_same_page(runs: Path, of_one_run: Page) -> None:
    assert make_page(runs / "together0").html == of_one_run.html


def test_every_figure_image_and_table_says_what_it_is(page: str) -> None:
    figures = re.findall(r'<div role="img" aria-label="([^"]*)">', page)
    assert len(figures) == page.count("<svg")
    assert all(len(alt) > 20 for alt in figures)
    assert len(re.findall(r'<img src="data:[^"]*" alt="[^"]+', page)) == page.count("<img ")
    assert page.count("<caption>") == page.count("<table")


def test_watching_ends_when_the_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", done=2)
    seen = []

    def sleep(seconds: float) -> None:
        seen.append((seconds, 'http-equiv="refresh"' in (run / "report.html").read_text()))
        if len(seen) == 2:
            finish(run)

    monkeypatch.setattr(command.time, "sleep", sleep)
    with trained(run):
        command.report(run, watch=True, every=3)
    assert seen == [(3, True), (3, True)]
    assert 'http-equiv="refresh"' not in (run / "report.html").read_text()
    assert list((run / "report").glob("*.png"))


def test_ctrl_c_leaves_a_page_that_no_longer_loads_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", done=2)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupted)
    with trained(run):
        command.report(run, watch=True)
    assert 'http-equiv="refresh"' not in (run / "report.html").read_text()


def test_a_page_that_cannot_be_written_is_named(runs: Path, tmp_path: Path) -> None:
    page = make_page(runs / "alone1")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to '.*page.html'"):
        write_page(page, tmp_path / "file" / "page.html")
    with pytest.raises(UserError, match="Figures cannot be written"):
        write_figures(page, tmp_path / "file")


def test_raw_material_of_other_weights_is_not_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", analysed=True)
    assert "a: cat" in text_of(make_page(run).html)
    change_weights(run)
    assert "class cat a:" not in text_of(make_page(run).html)


def test_what_was_fixed_is_not_told_of_another_control(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    assert "only the student has right (fixed)" in text_of(make_page(tmp_path / "runs" / "together0").html)
    change_weights(tmp_path / "runs" / "alone0")
    text = text_of(make_page(tmp_path / "runs" / "together0").html)
    assert "only the student has right (fixed)" not in text
    assert "It needs both analysed together." in text


def test_a_missing_library_is_named_with_the_command_that_installs_it() -> None:
    hidden = "import sys; sys.modules['matplotlib'] = None; sys.argv[1:] = ['report', '.']"
    code = f"{hidden}; from codistill.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "pip install 'codistill[report]'" in done.stderr


@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK])
def test_every_colour_is_readable_as_text(colours: dict[str, str]) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name, colour in colours.items():
        if name not in (palette.SURFACE, palette.RULE):
            low, high = sorted((luminance(colour), luminance(colours[palette.SURFACE])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, name


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [1.0, 0.99, 0.2], [0.0, 0.0], [0.3], [], [0.1] * 30])
def test_labels_are_apart_in_their_order_and_inside(heights: list[float]) -> None:
    places = spread(heights, 0.08)
    assert places == sorted(places)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    apart = min(0.08, 1 / max(len(heights) - 1, 1))
    assert all(b - a > apart - 1e-9 for a, b in pairwise(places))
