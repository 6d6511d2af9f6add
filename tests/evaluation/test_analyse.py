"""``codistill analyse`` on short runs: everything that analysis.json, the raw material and the tables promise."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cohorts import Silent
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from codistill import UserError
from codistill.cli import shared
from codistill.cli.main import app
from codistill.config.schema import make_config
from codistill.evaluation.analyse import analyse_run
from codistill.evaluation.compare.rows import compare
from codistill.evaluation.report import analysis as report
from codistill.metrics.raw import read_answers, read_raw
from codistill.storage import atomic_io
from codistill.storage.run_dir import RunFolder
from codistill.storage.run_files import read_analysis, read_metrics, read_summary
from codistill.training import finalize, predictions, restore, trainer

SHORT: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": ["rotation", "supcon"],
    "method": "collaborative",
    "data": {"name": "digits", "per_class": 20},
    "batch_size": 40,
    "epochs": 3,
}


def train(folder: Path, **more: Any) -> Path:
    trainer.train(make_config({**SHORT, **more}), folder, Silent())
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a CPM, analysed."""
    run = train(tmp_path_factory.mktemp("runs") / "cpm")
    analyse_run(run)
    return run


@pytest.fixture(scope="module")
def found(trained: Path) -> dict[str, Any]:
    return read_analysis(trained)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of three students of two kinds without a teacher, analysed."""
    folder = tmp_path_factory.mktemp("runs")
    students = {"a": "resnet8", "b": "resnet14", "c": "resnet8"}
    more = {"students": students, "method": "dml", "tasks": "none", "epochs": 1}
    made = [train(folder / f"dml{seed}", seed=seed, **more) for seed in (0, 1)]
    for run in made:
        analyse_run(run)
    return made


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def test_a_run_saves_what_everybody_says_of_every_test_image(trained: Path) -> None:
    raw = read_raw(trained, "test")
    assert raw.students == ["a", "b"]
    assert raw.teacher == "cpm"
    assert {name: own.shape for name, own in raw.logits.items()} == dict.fromkeys(("a", "b", "cpm"), (599, 10))
    assert {name: own.shape for name, own in raw.embeddings.items()} == dict.fromkeys(("a", "b"), (599, 64))
    size = (trained / "outputs" / "test.safetensors").stat().st_size
    promised = predictions.size(restore.rebuild(trained, "cpu")[0].cohort, 599, 10)
    assert promised < size < promised + 3000  # and the header


def test_accuracies_are_those_of_the_summary(trained: Path, found: dict[str, Any]) -> None:
    test = read_summary(trained)["test_accuracy"]
    assert {name: own["accuracy"] for name, own in found["students"].items()} == pytest.approx(
        test["students"], abs=1e-4
    )
    assert found["teacher"]["accuracy"] == pytest.approx(test["teacher"], abs=1e-4)
    assert found["ensemble"]["accuracy"] == pytest.approx(test["ensemble"], abs=1e-4)


def test_every_number_is_there_and_within_its_bounds(found: dict[str, Any]) -> None:
    assert found["version"] == 1
    assert found["command"].startswith("codistill analyse ")
    assert found["images"] == 599
    assert found["class_names"] == [str(digit) for digit in range(10)]
    assert sum(found["class_images"]) == 599
    for voice in (*found["students"].values(), found["teacher"], found["ensemble"]):
        assert voice["nll"] > 0
        assert 0 <= voice["ece"] <= 100
        assert sum(voice["calibration"]["images"]) == 599
        assert len(voice["class_accuracy"]) == len(voice["class_taken_for"]) == 10
    for student in found["students"].values():
        assert 1 <= student["effective_rank"] <= student["embedding_width"] == 64
        assert 20 < student["linear_probe"] <= 100
    pair = found["pairs"]["a/b"]
    assert 0 < pair["cka"] < 1
    assert -1 <= pair["error_correlation"] <= 1
    assert pair["kl"]["a/b"] > 0
    assert pair["kl"]["b/a"] != pair["kl"]["a/b"]


def test_shares_add_up(found: dict[str, Any]) -> None:
    accuracy = {name: own["accuracy"] for name, own in found["students"].items()}
    accuracy["cpm"] = found["teacher"]["accuracy"]
    for one, other in (("a", "b"), ("cpm", "a"), ("b", "cpm")):
        ahead = found["advantages"][f"{one}/{other}"]["share"] - found["advantages"][f"{other}/{one}"]["share"]
        assert ahead == pytest.approx(accuracy[one] - accuracy[other], abs=1e-3)
    both_wrong = 100 - accuracy["a"] - found["advantages"]["b/a"]["share"]
    assert found["pairs"]["a/b"]["double_fault"] == pytest.approx(both_wrong, abs=1e-3)
    weighed = np.mean([value for value in found["students"]["a"]["class_accuracy"]])
    assert weighed == pytest.approx(accuracy["a"], abs=1.5)  # the classes of digits are nearly of one size


def test_images_of_an_advantage_are_right_for_one_and_wrong_for_the_other(trained: Path, found: dict[str, Any]) -> None:
    raw = read_raw(trained, "test")
    right = {name: logits.argmax(axis=1) == raw.labels for name, logits in raw.logits.items()}
    for names, advantage in found["advantages"].items():
        one, other = names.split("/")
        images = advantage["images"]
        assert len(images) == min(50, round(advantage["share"] * 5.99))
        assert right[one][images].all()
        assert not right[other][images].any()


def test_stages_compare_with_every_stage_of_every_student(found: dict[str, Any]) -> None:
    cka = found["stage_cka"]
    assert cka["layers"] == ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"]
    values = np.array(cka["values"])
    np.testing.assert_allclose(np.diag(values), 1)
    np.testing.assert_array_equal(values, values.T)
    assert (values > 0).all()


def test_students_that_share_a_trunk_are_equal_there(tmp_path: Path) -> None:
    run = train(tmp_path / "one", method="one", tasks="none", epochs=1)
    cka = analyse_run(run)["stage_cka"]
    assert cka["values"][0][3] == pytest.approx(1, abs=1e-4)
    assert cka["values"][2][5] < 0.999


def test_what_is_known_over_epochs_ends_where_the_last_epoch_does(trained: Path, found: dict[str, Any]) -> None:
    history = found["over_epochs"]
    assert history["epochs"] == [1, 2, 3]
    assert history["images"] == 120
    epochs = [line for line in read_metrics(trained) if line["kind"] == "epoch"]
    for name in ("a", "b"):
        accuracies = [100 * count / 120 for count in history["right"][name]]
        assert accuracies == pytest.approx([line["validation_accuracy"]["students"][name] for line in epochs])
    assert history["agreement"]["a/b"] == pytest.approx(
        [100 - line["diversity"]["a/b"]["disagreement"] for line in epochs], abs=0.01
    )
    for order in ("first_right", "right_for_good"):
        assert {sum(counts.values()) for counts in history[order].values()} == {120}
    assert set(history["right_for_good"]) == {"a/b", "cpm/a", "cpm/b"}


def test_transfers_are_images_that_one_knew_for_good_before_the_other(trained: Path, found: dict[str, Any]) -> None:
    answers = read_answers(trained)
    assert answers is not None
    right = {name: given == answers.labels for name, given in answers.answers.items()}
    transfers = found["over_epochs"]["transfers"]
    assert any(transfers.values())
    for names, images in transfers.items():
        one, other = names.split("/")
        for row, epoch, later in images:
            assert epoch < later
            assert right[one][epoch - 1 :, row].all()
            assert right[other][later - 1 :, row].all()
            assert not right[other][later - 2, row]


def test_each_epoch_is_logged_with_richness_and_diversity(trained: Path) -> None:
    epochs = [line for line in read_metrics(trained) if line["kind"] == "epoch"]
    for line in epochs:
        assert set(line["richness"]) == {"a", "b"}
        assert all(1 <= rank <= 64 for rank in line["richness"].values())
        assert 0 < line["diversity"]["a/b"]["cka"] <= 1


def test_examples_are_the_images_themselves_with_the_maps_of_the_cpm(trained: Path, found: dict[str, Any]) -> None:
    tensors = load_file(trained / found["examples"]["file"])
    experiment, _ = restore.rebuild(trained, "cpu")
    rows = found["examples"]["rows"]
    assert len(set(rows)) == 12
    assert torch.equal(tensors["images"], experiment.test.images.pixels[rows])
    assert tensors["images"].dtype == torch.uint8
    assert found["examples"]["maps"]
    for name in ("a", "b"):
        torch.testing.assert_close(tensors[f"attention/{name}"].sum(dim=(1, 2)), torch.ones(12))
    torch.testing.assert_close(tensors["contribution/a"] + tensors["contribution/b"], torch.ones(12, 2, 2))
    assert sum(found["cpm"]["contribution"].values()) == pytest.approx(100, abs=0.01)
    assert max(found["cpm"]["trust"].values()) == 1.0


def test_a_method_without_a_teacher_has_none_in_its_analysis(plain: list[Path]) -> None:
    found = read_analysis(plain[0])
    assert found["teacher"] is None
    assert found["cpm"] is None
    assert list(found["pairs"]) == ["a/b", "a/c", "b/c"]
    assert set(found["advantages"]) == {f"{x}/{y}" for x in "abc" for y in "abc" if x != y}
    assert "agreement_with_teacher" not in found["students"]["a"]
    assert not found["examples"]["maps"]
    alone = [found["students"][name]["alone_right"]["share"] for name in "abc"]
    assert sum(alone) < 100


def test_a_finished_run_without_its_raw_material_is_analysed_from_its_checkpoint(
    trained: Path, tmp_path: Path, found: dict[str, Any]
) -> None:
    old = copy(trained, tmp_path / "old")
    shutil.rmtree(old / "outputs")
    (old / "analysis.json").unlink()
    again = analyse_run(old)
    assert again["over_epochs"] is None  # it cannot be made again
    different = {key for key in found if json.dumps(found[key]) != json.dumps(again[key])}
    assert different == {"command", "over_epochs"}
    assert "right for good" not in str(report.voices([again]))
    assert report.who_was_first([again]) is None


def test_analysing_twice_finds_the_same(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "again")
    first = (analyse_run(run), (run / "outputs" / "test.safetensors").stat().st_mtime_ns)
    assert (analyse_run(run), (run / "outputs" / "test.safetensors").stat().st_mtime_ns) == first


def test_raw_material_of_other_weights_is_made_anew(trained: Path, tmp_path: Path, found: dict[str, Any]) -> None:
    run = copy(trained, tmp_path / "run")
    path = run / "outputs" / "test.safetensors"
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    save_file({**tensors, "labels": 9 - tensors["labels"]}, path, {**about, "sha256": json.dumps({"a": "another"})})
    assert analyse_run(run)["students"] == found["students"]


def test_raw_material_with_other_labels_than_the_data_has_is_refused(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    path = run / "outputs" / "test.safetensors"
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    save_file({**tensors, "labels": 9 - tensors["labels"]}, path, about)
    with pytest.raises(UserError, match="holds answers to other test images than the data has now"):
        analyse_run(run)


def test_damaged_raw_material_is_named(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    path = run / "outputs" / "test.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"outputs/test\.safetensors' cannot be read: .*Delete it"):
        analyse_run(run)


def test_validation_images_are_analysed_beside_the_test_images(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    before = (run / "analysis.json").read_bytes()
    found = analyse_run(run, "validation")
    assert (found["data"], found["images"]) == ("validation", 120)
    assert read_analysis(run, "validation") == found
    assert (run / "analysis.json").read_bytes() == before
    validation = read_summary(run)["validation_accuracy"]["students"]
    assert {name: own["accuracy"] for name, own in found["students"].items()} == pytest.approx(validation, abs=1e-4)
    assert found["examples"]["file"] == "outputs/examples_validation.safetensors"


def test_a_run_without_validation_images_has_no_history_and_says_so(tmp_path: Path) -> None:
    run = train(tmp_path / "run", epochs=1, data={**SHORT["data"], "validation": 0})
    assert not (run / "outputs" / "answers.safetensors").exists()
    assert analyse_run(run)["over_epochs"] is None
    with pytest.raises(UserError, match=r"no validation images.*--data test"):
        analyse_run(run, "validation")


def test_a_run_too_large_to_save_all_leaves_that_to_analyse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finalize, "MOST_BYTES", 1000)
    run = train(tmp_path / "run", epochs=1)
    assert not (run / "outputs" / "test.safetensors").exists()
    assert analyse_run(run)["images"] == 599
    assert (run / "outputs" / "test.safetensors").exists()


def test_a_new_run_in_its_place_leaves_nothing_of_the_analysis(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    with RunFolder(run) as folder:
        folder.start("epochs: 1\n", overwrite=True)
    assert not [path for path in run.rglob("*") if path.name.startswith("analysis") or path.suffix == ".safetensors"]


def test_what_cannot_be_written_is_told_in_the_words_of_the_system(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    run = copy(trained, tmp_path / "run")
    monkeypatch.setattr("codistill.storage.atomic_io.write_file", full)
    with pytest.raises(UserError, match=r"cannot be written there: No space left on device\."):
        analyse_run(run)


@pytest.mark.parametrize("lost", ["outputs/test.safetensors", None])
def test_what_cannot_be_written_is_shown_all_the_same(
    trained: Path, tmp_path: Path, lost: str | None, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, write_file = copy(trained, tmp_path / "run"), atomic_io.write_file

    def read_only(path: Path, *rest: Any) -> None:
        if path.is_relative_to(run):
            raise OSError(30, "Read-only file system")
        write_file(path, *rest)

    if lost:
        (run / lost).unlink()
    (run / "analysis.json").unlink()
    monkeypatch.setattr("codistill.storage.atomic_io.write_file", read_only)
    shown, as_json = (CliRunner().invoke(app, ["analyse", str(run), *more]) for more in ([], ["--json"]))
    for done in (shown, as_json):
        assert done.exit_code == 1
        assert "cannot be written there: Read-only file system." in done.stderr
    assert all(
        word in shown.stdout for word in ("linear probe %", "error correlation", f"{found['ensemble']['ece']:.2f}")
    )
    assert "All of it" not in shown.stdout
    assert json.loads(as_json.stdout)[str(run)]["students"] == found["students"]


def test_a_table_that_is_a_little_too_wide_keeps_its_words_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared, "console", Console(width=80))
    labels = [*report.VOICES, "teacher right, student wrong %", "student right, teacher wrong %"]
    header = ["", "resnet8_1", "resnet8_2", "teacher cpm", "ensemble"]
    shared.print_table(header, [[label, *["12.34"] * 4] for label in labels])
    shown = capsys.readouterr().out
    for word in " ".join([*header, *labels]).split():
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_table_that_fits_neither_way_goes_on_below_and_cuts_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared, "console", Console(width=60))
    header = ["run", *(f"measure {number}" for number in range(12)), "also differs"]
    rows = [[f"run{row}", *(f"{row}{number:02}.25 ± 0.50" for number in range(12)), "x=1, " * 40] for row in range(9)]
    shared.print_table(header, rows)
    shown = capsys.readouterr().out
    assert all(shown.count(cell) == 1 for row in rows for cell in row[1:-1])
    assert max(map(len, shown.splitlines())) <= 60


def test_runs_that_differ_by_seed_alone_share_a_table_of_means_and_deviations(plain: list[Path]) -> None:
    (group,) = report.read_groups(compare(plain).rows, "test")
    assert report.title(group).endswith("dml0, " + str(plain[1]) + " (599 test images)")
    header, cells = report.voices(group.analyses)
    assert header == ["", "a", "b", "c", "ensemble"]
    values = [analysis["students"]["b"]["accuracy"] for analysis in group.analyses]
    (line,) = [line for line in cells if line[0] == "accuracy %"]
    assert line[2] == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    assert all("±" in cell for line in cells for cell in line[1:] if cell)
    assert [line[0] for line in cells if "teacher" in line[0] or "agreement" in line[0]] == []
    assert all(cell.endswith("of 64") for line in cells if line[0] == "effective rank" for cell in line[1:4])
    header, cells = report.pairs(group.analyses)
    assert header == ["", "a/b", "a/c", "b/c"]
    assert all("±" in cell for line in cells for cell in line[1:] if cell)


def test_students_that_are_called_like_others_have_columns_of_their_own() -> None:
    told = {"accuracy": 50.0, "embedding_width": 8}
    students = {"ensemble": {**told, "accuracy": 40.0}, "b": told}
    header, cells = report.voices([{"students": students, "teacher": None, "ensemble": {"accuracy": 60.0}}])
    assert header == ["", "student ensemble", "b", "ensemble"]
    assert cells[0][1:] == ["40.00", "50.00", "60.00"]


def made_up(images: list[int], **class_accuracies: list[float | None]) -> dict[str, Any]:
    """What an analysis says of classes."""
    return {
        "class_names": [f"class {number}" for number in range(len(images))],
        "class_images": images,
        "students": {
            name: {
                "accuracy": sum(n * of_class for n, of_class in zip(images, own, strict=True) if of_class)
                / sum(images),
                "class_accuracy": own,
            }
            for name, own in class_accuracies.items()
        },
    }


def test_the_classes_that_each_student_gets_right_least_often_are_told() -> None:
    images = [100, 0, 50, 1000, 10, 10, 10]
    analysis = made_up(images, a=[90, None, 80, 70.5, 60, 50, 40], b=[100, None, 100, 100, 100, 30, 100])
    header, cells = report.weakest_classes([analysis])  # type: ignore[misc]
    assert header == ["least often right", "class", "right %", "images", "most taken for"]
    assert cells == [
        ["a", "class 6", "40.00", "10", ""],
        ["", "class 5", "50.00", "10", ""],
        ["", "class 4", "60.00", "10", ""],
        ["", "class 3", "70.50", "1,000", ""],
        ["", "class 2", "80.00", "50", ""],
        ["b", "class 5", "30.00", "10", ""],
    ]
    seeds = [made_up([5, 5], a=[80, 60]), made_up([5, 5], a=[60, 70])]
    assert report.weakest_classes(seeds)[1][0] == ["a", "class 1", "65.00 ± 7.07", "5", ""]  # type: ignore[index]
    assert report.weakest_classes([made_up([5, 5], a=[100, 100])]) is None


def test_for_what_a_class_is_most_often_taken_is_told_from_the_run_where_it_is_most() -> None:
    seeds = [made_up([5, 5, 5], a=[100, 20, 60]), made_up([5, 5, 5], a=[100, 20, 40])]
    for analysis, taken in zip(seeds, ([None, (2, 3), (0, 2)], [None, (0, 4), (1, 1)]), strict=True):
        analysis["students"]["a"]["class_taken_for"] = taken
    cells = report.weakest_classes(seeds)[1]  # type: ignore[index]
    assert [(line[1], line[-1]) for line in cells] == [("class 1", "class 0 (4)"), ("class 2", "class 0 (2)")]


def test_students_hardly_better_than_one_answer_for_all_are_told() -> None:
    told = report.no_better_than_one_answer([made_up([95, 5], a=[100, 0], b=[100, 35], c=[100, 80])])
    assert told == "Always 'class 0' would be 95.00 %, and a 95.00 %, b 96.75 %: look at the classes, not at accuracy."
    assert report.no_better_than_one_answer([made_up([50, 50], a=[60, 60])]) is None


def test_several_groups_are_compared_a_line_each(trained: Path, plain: list[Path]) -> None:
    groups = report.read_groups(compare([*plain, trained]).rows, "test")
    header, cells = report.comparison(groups)
    assert [line[:3] for line in cells] == [["dml", "none", "2"], ["collaborative", "rotation, supcon", "1"]]
    assert all(len(line) == len(header) for line in cells)
    column = header.index("students' agreement %")
    assert cells[0][column] == ""
    assert float(cells[1][column]) > 10
    assert len(report.meanings(groups)) == len(report.VOICES) + len(report.PAIRS) + 1


def test_an_analysis_that_was_not_made_is_asked_for(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path / "run")
    (run / "analysis.json").unlink()
    with pytest.raises(UserError, match=rf"has no analysis\.json. Make it: codistill analyse {run} --data test"):
        read_analysis(run)
