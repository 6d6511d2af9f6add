"""Runs side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from codistill.errors import UserError
from codistill.report.compare import compare, markdown, mean_and_deviation

CONFIG: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": [[{"name": "rotation", "weight": 1.0}], []],
    "method": {"name": "dml", "temperature": 1.0},
    "optimizer": {"lr": 0.1},
    "epochs": 10,
    "seed": 0,
}


def write_run(folder: Path, a: float, b: float, **changes: Any) -> Path:
    folder.mkdir()
    config = {**CONFIG, **changes}
    summary = {
        "test_accuracy": {"students": {"a": a, "b": b}, "teacher": None, "ensemble": max(a, b) + 1},
        "parameters": {"students": {"a": 5, "b": 5}, "training_only": 1234},
        "seconds": 90.0,
        "seed": config["seed"],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_runs_that_differ_by_seed_alone_share_a_row_with_mean_and_sample_deviation(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), 50.0 + seed, 60.0, seed=seed) for seed in range(3)]
    (row,) = compare(runs).rows
    assert row.seeds == [0, 1, 2]
    assert row.students == {"a": [50.0, 51.0, 52.0], "b": [60.0, 60.0, 60.0]}
    assert row.students_mean == [55.0, 55.5, 56.0]
    assert mean_and_deviation(row.students["a"]) == "51.00 ± 1.00"
    assert mean_and_deviation([50.0]) == "50.00"


def test_rows_tell_methods_and_tasks_apart_and_name_the_settings_that_differ(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "plain", 50, 50)
    hot = write_run(tmp_path / "hot", 51, 51, method={"name": "dml", "temperature": 3.0})
    comparison = compare([plain, hot])
    assert [row.settings for row in comparison.rows] == [{"method.temperature": 1.0}, {"method.temperature": 3.0}]
    assert comparison.rows[0].tasks == "rotation, none"
    assert comparison.differing_terms == []
    assert "| dml | rotation, none | 50.00 | 50.00 | 50.00 |  | 51.00 | 1 | 1,234 | 1.5 |" in markdown(comparison)


def test_runs_on_other_terms_are_said_not_to_compete(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "short", 1, 1), write_run(tmp_path / "long", 2, 2, epochs=20)]
    assert compare(runs).differing_terms == ["epochs"]


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
        {"task.rotation.weight": [1.0, 1.0]},
    ]


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
