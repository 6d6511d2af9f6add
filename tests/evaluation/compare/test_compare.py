"""Runs side by side."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from made_up_runs import ALONE, CONFIG, accuracy, write_run, write_seeds
from typer.testing import CliRunner

from codistill.cli import shared
from codistill.cli.main import app
from codistill.errors import UserError
from codistill.evaluation.compare.rows import compare, mean_and_deviation
from codistill.evaluation.compare.tables import markdown, tables


def test_runs_that_differ_by_seed_alone_share_a_row_with_mean_and_sample_deviation(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), 50.0 + seed, 60.0, seed=seed) for seed in range(3)]
    (row,) = compare(runs).rows
    assert row.seeds == [0, 1, 2]
    assert row.students == {"a": [50.0, 51.0, 52.0], "b": [60.0, 60.0, 60.0]}
    assert row.last.students_mean == [55.0, 55.5, 56.0]
    assert mean_and_deviation(row.students["a"]) == "51.00 ± 1.00"
    assert mean_and_deviation([50.0]) == "50.00"


def test_rows_tell_methods_and_tasks_apart_and_name_the_settings_that_differ(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "plain", 50, 50)
    hot = write_run(tmp_path / "hot", 51, 51, method={"name": "dml", "temperature": 3.0})
    comparison = compare([plain, hot])
    assert [row.settings for row in comparison.rows] == [{"method.temperature": 1.0}, {"method.temperature": 3.0}]
    assert comparison.rows[0].tasks == "rotation, none"
    assert comparison.differing_terms == []
    assert "| plain | dml | rotation, none | 50.00 | 50.00 | 50.00 | 51.00 | 1 | 1,234 | 1.5 |" in markdown(
        tables(comparison)
    )


@pytest.mark.parametrize(
    ("changes", "term"),
    [
        ({"epochs": 20}, "epochs"),
        ({"data": {"name": "other"}}, "data.name"),
        ({"augment": {"flip": True}}, "augment.flip"),
        ({"optimizer": {"lr": 0.1, "weight_decay": 1e-4}}, "optimizer.weight_decay"),
    ],
)
def test_runs_on_other_terms_are_kept_apart_and_the_term_is_named(
    tmp_path: Path, changes: dict[str, object], term: str
) -> None:
    runs = [write_run(tmp_path / "one", 1, 1), write_run(tmp_path / "other", 2, 2, **changes)]
    comparison = compare(runs)
    assert comparison.differing_terms == [term]
    assert [[row.name for row in block.rows] for block in comparison.blocks] == [["one"], ["other"]]
    assert all(set(block.terms) <= {term} for block in comparison.blocks)
    assert f"Block 2 of 2: {term}=" in markdown(tables(comparison))


def test_students_alone_who_trained_longer_stand_with_those_whose_control_they_are(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1), write_run(tmp_path / "long", 2, 2, method=ALONE, epochs=20)]
    (block,) = compare(runs).blocks
    assert [row.name for row in block.rows] == ["taught", "long"]
    assert [row.settings["epochs"] for row in block.rows] == [10, 20]


def test_the_terminal_shows_three_rows_at_80_columns_as_three_whole_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.console, "width", 80)
    cost = {"forward_passes": {"a": 1.25, "b": 1.25}, "processor_seconds": 700.0, "training_seconds": 800.0}
    for seed in range(3):
        write_run(tmp_path / f"collaborative-seed{seed}", 50, 51 + seed, cost, seed=seed)
        write_run(tmp_path / f"collaborative_alone-seed{seed}", 47, 48, cost, seed=seed, method=ALONE)
        plain = {**cost, "forward_passes": {"a": 1, "b": 1}}
        kinds = {"seed": seed, "method": ALONE, "tasks": [[], []], "epochs": 13}
        write_run(tmp_path / f"collaborative_plain-seed{seed}", 52, 53, plain, **kinds)
    done = CliRunner().invoke(app, ["compare", str(tmp_path)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("\N{BOX DRAWINGS HEAVY DOWN AND RIGHT}") for line in lines) == 3
    assert [line for line in lines if line and line[0].isalpha()] == ["Differences of the students' mean", "Training"]


def test_the_command_computes_what_was_asked_for_and_says_where_no_seed_is_in_common(tmp_path: Path) -> None:
    write_seeds(tmp_path, "sweep", [50, 51], epochs=20)
    write_seeds(tmp_path, "alone", [40, 42], method=ALONE)
    write_run(tmp_path / "other", 1, 1, seed=7)
    done = CliRunner().invoke(app, ["compare", str(tmp_path), "--against", "alone"])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if "sweep" in line and "+9.50" in line)
    assert [cell.strip() for cell in line.split("\N{BOX DRAWINGS LIGHT VERTICAL}")][1:5] == [
        "sweep",
        "alone",
        "epochs",
        "+9.50",
    ]
    assert "No difference of 'other' to 'alone': they have no seed in common (7 and 0, 1)." in done.stderr
    assert "What differs from 'alone' stands beside each difference to it." in done.stderr
    assert "No control" not in done.stderr


def test_students_alone_who_trained_less_or_on_other_terms_too_stand_apart(tmp_path: Path) -> None:
    terms = {"less": {"epochs": 5}, "other": {"epochs": 20, "batch_size": 8}}
    runs = [write_run(tmp_path / name, 2, 2, method=ALONE, **changes) for name, changes in terms.items()]
    comparison = compare([write_run(tmp_path / "taught", 1, 1), *runs])
    assert len(comparison.blocks) == 3


def test_a_longer_control_does_not_leave_those_who_are_taught_as_long(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"taught{epochs}", 1, 1, epochs=epochs) for epochs in (10, 20)]
    runs.append(write_run(tmp_path / "alone", 1, 1, method=ALONE, epochs=20))
    blocks = [[row.name for row in block.rows] for block in compare(runs).blocks]
    assert blocks == [["taught10"], ["taught20", "alone"]]


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (["dml-seed0", "dml-seed1"], "dml"),
        (["a0", "a1"], "a"),
        (["2026-01-31_120000_123_dml-seed0", "2026-01-31_130000_456_dml-seed1"], "dml"),
        (["resnet20"], "resnet20"),
        (["one", "two"], "one, two"),
        (["seed0", "seed1"], "seed"),
    ],
)
def test_rows_are_called_as_their_folders_without_the_seed(tmp_path: Path, folders: list[str], name: str) -> None:
    runs = [write_run(tmp_path / folder, 1, 1, seed=seed) for seed, folder in enumerate(folders)]
    assert [row.name for row in compare(runs).rows] == [name]


def test_rows_of_equal_names_are_told_apart_by_the_folder_above(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / place / "dml-seed0", 1, 1, batch_size=size) for place, size in (("x", 8), ("y", 9))]
    assert [row.name for row in compare(runs).rows] == ["x/dml", "y/dml"]


def test_the_selected_epoch_is_shown_where_every_run_of_a_row_recorded_it(tmp_path: Path) -> None:
    chosen = {"test_accuracy_selected": {"epoch": 7, **accuracy(CONFIG, 40.0, 60.0)}}
    new = [write_run(tmp_path / f"new-seed{seed}", 30, 30, chosen, seed=seed) for seed in (0, 1)]
    mixed = [write_run(tmp_path / "old-seed0", 30, 30, batch_size=9)]
    mixed.append(write_run(tmp_path / "old-seed1", 30, 30, chosen, seed=1, batch_size=9))
    recorded, blank = compare([*new, *mixed]).rows
    assert recorded.selected is not None
    assert recorded.selected.students_mean == [50.0, 50.0]
    assert blank.selected is None
    assert "students' mean, selected" in markdown(tables(compare(new)))
    assert "selected" not in markdown(tables(compare(mixed)))


def test_a_run_compares_with_those_from_before_the_cache_and_without_it(tmp_path: Path) -> None:
    kept = [{"seed": 0}, {"seed": 0, "cache": True}, {"seed": 0, "cache": False}]
    runs = [write_run(tmp_path / str(seed), 1, 1, seed=seed, data=data) for seed, data in enumerate(kept)]
    comparison = compare(runs)
    assert [row.seeds for row in comparison.rows] == [[0, 1, 2]]
    assert comparison.differing_terms == []


def test_a_run_compares_with_those_from_before_trackers_and_with_others(tmp_path: Path) -> None:
    kept = [{}, {"trackers": [], "project": "codistill"}, {"trackers": ["wandb"], "project": "mine"}]
    runs = [write_run(tmp_path / str(seed), 1, 1, seed=seed, **changes) for seed, changes in enumerate(kept)]
    comparison = compare(runs)
    assert [row.seeds for row in comparison.rows] == [[0, 1, 2]]
    assert comparison.rows[0].settings == {}


def test_a_weight_that_one_row_alone_overrides_is_named_in_both(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 1, 1), write_run(tmp_path / "b", 1, 1, weights={"*/peers_kl": 0.0})]
    assert [row.settings for row in compare(runs).rows] == [
        {"weights.*/peers_kl": "default"},
        {"weights.*/peers_kl": 0.0},
    ]


def test_other_models_are_named_and_do_not_compete(tmp_path: Path) -> None:
    other = {"students": {"a": "resnet8", "c": "resnet20"}}
    runs = [write_run(tmp_path / "a", 1, 1), write_run(tmp_path / "b", 1, 1)]
    (tmp_path / "b" / "config.yaml").write_text(yaml.safe_dump({**CONFIG, **other}))
    summary = json.loads((tmp_path / "b" / "summary.json").read_text())
    summary["test_accuracy"]["students"] = {"a": 1.0, "c": 2.0}
    (tmp_path / "b" / "summary.json").write_text(json.dumps(summary))
    comparison = compare(runs)
    assert comparison.differing_terms == ["students"]
    assert comparison.rows[1].settings == {"students": ["resnet8", "resnet20"]}


def test_the_same_task_with_other_settings_for_one_student_is_named(tmp_path: Path) -> None:
    heavy = [[{"name": "rotation", "weight": 2.0}], [{"name": "rotation", "weight": 1.0}]]
    light = [[{"name": "rotation", "weight": 1.0}], [{"name": "rotation", "weight": 1.0}]]
    runs = [write_run(tmp_path / "a", 1, 1, tasks=heavy), write_run(tmp_path / "b", 1, 1, tasks=light)]
    assert [row.settings for row in compare(runs).rows] == [
        {"task.rotation.weight": [2.0, 1.0]},
        {"task.rotation.weight": 1.0},
    ]


def test_seconds_of_the_processor_are_shown_where_runs_know_them_even_untimed(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 1, 1, {"processor_seconds": 90.0}), write_run(tmp_path / "b", 1, 1, method=ALONE)]
    (table, *_) = tables(compare(runs), timing=False)
    column = table.header.index("processor minutes")
    assert [line[column] for line in table.cells] == ["1.5", ""]
    (table, *_) = tables(compare(runs[1:]), timing=False)
    assert "processor minutes" not in table.header


def test_runs_of_one_process_and_of_several_are_no_seeds_of_one_row(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path, "dml", [50, 51])
    summary = json.loads((runs[1] / "summary.json").read_text())
    (runs[1] / "summary.json").write_text(json.dumps({**summary, "processes": 8}))
    found = compare(runs)
    assert [row.seeds for row in found.rows] == [[0], [1]]
    assert found.differing_terms == ["processes"]


def test_runs_on_images_that_changed_in_between_are_refused(tmp_path: Path) -> None:
    data = {"name": "photos", "cache": True}
    runs = [
        write_run(tmp_path / f"{name}", 50, 50, {"fingerprint": images} if images else {}, data=data, seed=seed)
        for seed, (name, images) in enumerate((("earlier", None), ("first", "f1"), ("second", "f1"), ("third", "f3")))
    ]
    assert compare(runs[:3]).rows[0].seeds == [0, 1, 2]
    with pytest.raises(UserError, match=r"first' and .*third' have the same settings of data, but not the same train"):
        compare(runs)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_runs_whose_images_of_any_split_changed_in_between_are_refused(tmp_path: Path, split: str) -> None:
    whole = {"train": "f1", "validation": "f2", "test": "f3"}
    known = {"earlier": {}, "first": {"fingerprints": whole}, "other": {"fingerprints": {**whole, split: "f4"}}}
    runs = [
        write_run(tmp_path / name, 50, 50, {"fingerprint": "f", **more}, data={"name": "photos"}, seed=seed)
        for seed, (name, more) in enumerate(known.items())
    ]
    assert compare(runs[:2]).rows[0].seeds == [0, 1]
    named = "training" if split == "train" else split
    with pytest.raises(UserError, match=rf"first' and .*other' have the same settings of data, .* {named} images"):
        compare(runs)


def test_the_same_images_under_two_names_are_the_same_data_and_other_images_are_not(tmp_path: Path) -> None:
    same, other = ({"fingerprints": {"train": "f1", "test": test}} for test in ("f2", "f3"))
    runs = [
        write_run(tmp_path / "alone-seed0", 50, 50, same, data={"name": "clean"}, method=ALONE),
        write_run(tmp_path / "dml-seed0", 51, 51, same, data={"name": "./clean/"}),
        write_run(tmp_path / "dml-seed1", 52, 52, same, seed=1, data={"name": "clean"}),
        write_run(tmp_path / "hot-seed0", 53, 53, other, data={"name": "./clean"}),
        write_run(tmp_path / "dml-seed2", 54, 54, seed=2, data={"name": "./clean/"}),  # an earlier version's
    ]
    for order in (runs, [*runs[1:], runs[0]]):
        found = compare(order)
        seeds = [sorted(row.seeds for row in block.rows) for block in found.blocks]
        assert sorted(seeds) == [[[0]], [[0], [0, 1, 2]]]
    assert found.differing_terms == ["data.name"]
    assert compare(runs[:3]).differing_terms == []


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "one", 1, 1), write_run(tmp_path / "copy", 1, 1)]
    with pytest.raises(UserError, match=r"one' and '.*copy' are the same run \(seed 0\)"):
        compare(runs)


def test_a_folder_that_is_no_finished_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere' does not exist"):
        compare([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"has no config.yaml. Is it a run folder\?"):
        compare([tmp_path])
    (write_run(tmp_path / "unfinished", 1, 1) / "summary.json").unlink()
    with pytest.raises(UserError, match=r"has no summary.json. The run is not finished"):
        compare([tmp_path / "unfinished"])


def test_the_command_takes_folders_of_runs_and_passes_over_what_is_no_finished_run(tmp_path: Path) -> None:
    made = [write_run(tmp_path / "runs" / name, 1, 1, seed=seed) for seed, name in enumerate(("dml0", "dml1", "late"))]
    (made[2] / "summary.json").unlink()
    (tmp_path / "runs" / "report").mkdir()
    (tmp_path / "runs" / "report.html").touch()

    def asked(*places: Path) -> Result:
        return CliRunner().invoke(app, ["compare", "--csv", *map(str, places)])

    wanted = CliRunner().invoke(app, ["compare", "--csv", *map(str, made[:2])])
    assert wanted.exit_code == 0
    everything = asked(*sorted((tmp_path / "runs").iterdir()))
    assert everything.stdout == wanted.stdout
    passed_over = {"late": "is not finished", "report": "is no run", "report.html": "is no run"}
    told = [f"Passed over: '{tmp_path / 'runs' / name}' {why}." for name, why in passed_over.items()]
    assert [line for line in everything.stderr.splitlines() if line not in wanted.stderr] == told
    folder = asked(tmp_path / "runs", made[0])
    assert folder.stdout == wanted.stdout
    assert [line for line in folder.stderr.splitlines() if line not in wanted.stderr] == told[:1]
    none_left, nowhere = asked(made[2], tmp_path / "runs" / "report"), asked(made[0], tmp_path / "nowhere")
    assert "has no summary.json. The run is not finished" in str(none_left.exception)
    assert "nowhere' does not exist" in str(nowhere.exception)
