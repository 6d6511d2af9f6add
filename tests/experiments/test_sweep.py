"""Sweeps: what a file asks for, and training it in processes that may be stopped, fail, or be started again."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from codistill import UserError
from codistill.cli.main import app
from codistill.config.recipe import read_overrides
from codistill.config.schema import RunConfig
from codistill.experiments.sweep.dry_run import dry_run
from codistill.experiments.sweep.gpus import read_gpus
from codistill.experiments.sweep.queue import Job, train_all
from codistill.experiments.sweep.sweep_file import read_sweep
from codistill.models import as_it_begins
from codistill.training.auto import ENOUGH_FOR_PEERS, settle
from codistill.training.signals import StopRequest

SHORT = (
    "base: {students: [resnet8, resnet8], method: independent, tasks: none, epochs: 1, data.per_class: 12, "
    "batch_size: 32}\n"
)


def as_trained(config: RunConfig) -> RunConfig:
    """As a run of some length has it in its folder."""
    return settle(config, ENOUGH_FOR_PEERS)[0]


def written(folder: Path, text: str, name: str = "tiny.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_all_rows_come_with_their_first_seed_before_any_comes_with_its_second(tmp_path: Path) -> None:
    text = "rows: {dml: {method: dml, tasks: none}, mine: {seeds: [7]}}\nseeds: 2"
    assert [entry.name for entry in read_sweep(written(tmp_path, text))] == ["dml-seed0", "mine-seed7", "dml-seed1"]


def test_a_grid_is_every_combination_within_each_row(tmp_path: Path) -> None:
    text = "rows: {dml: {method: dml}}\ngrid: {optimizer.lr: [0.05, 0.1], tasks: {none: none, turns: [rotation, none]}}"
    entries = {entry.name: entry.config for entry in read_sweep(written(tmp_path, text))}
    assert list(entries) == [f"dml_{lr}_{task}-seed0" for lr in (0.05, 0.1) for task in ("none", "turns")]
    assert entries["dml_0.05_turns-seed0"].optimizer.lr == 0.05
    assert [task.name for task in entries["dml_0.1_turns-seed0"].tasks[0]] == ["rotation"]


def test_a_recipe_beside_the_file_is_the_base_and_keys_of_the_command_line_come_last(tmp_path: Path) -> None:
    written(tmp_path, "epochs: 5\nbatch_size: 64\nmethod: dml", "recipe.yaml")
    sweep = written(tmp_path, "base: recipe.yaml\nrows: {a: {batch_size: 32}}")
    ((_, config),) = read_sweep(sweep, read_overrides(["epochs=7"]))
    assert (config.epochs, config.batch_size, config.method.name) == (7, 32, "dml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row: {}", "Unknown key in sweep .* 'row'. Did you mean 'rows'"),
        ("rows: [dml]", "rows should hold keys and values"),
        ("rows: {a: {method: dmll}}", "row 'a': Unknown method 'dmll'"),
        ("rows: {a/b: {}}", "'a/b' names a folder"),
        ("rows: {a: {}, A: {epochs: 3}}", "two runs are called 'a-seed0'"),
        ("rows: {a: {}, b: {}}", "'a-seed0' and 'b-seed0' are the same run"),
        ("grid: {tasks: [[rotation, none]]}", "grid.tasks should be a list of words and numbers, or a mapping"),
        ("grid: {epochs: []}", "grid.epochs should be a list"),
        ("rows: {a: {seed: 5}}", "seed is not for rows or a grid to set"),
        ("grid: {seed: [3, 4]}", "seed is not for rows or a grid to set"),
        ("rows: {a: {method: ffl}}\ngrid: {method: [dml, ffl]}", "row 'a': method is set here, and by the grid"),
        ("rows: {a: {method.temperature: 2}}\ngrid: {method: [dml]}", r"method\.temperature is set .* grid \(method\)"),
        ("rows: {a: {optimizer: {lr: 1}}}\ngrid: {optimizer.lr: [0.1]}", r"row 'a': optimizer\.lr is set here"),
        ("seeds: 0", "seeds should be a number of 1 or more"),
        ("seeds: [-1]", "seeds should be a number of 1 or more"),
        ("base: nowhere.yaml", "nowhere.yaml' does not exist"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said_before_anything_is_trained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_sweep(written(tmp_path, text))


def test_the_seed_of_the_base_holds_unless_seeds_are_said(tmp_path: Path) -> None:
    text = SHORT.replace("{students", "{seed: 7, students")
    assert [entry.config.seed for entry in read_sweep(written(tmp_path, text))] == [7]
    assert [entry.config.seed for entry in read_sweep(written(tmp_path, text + "seeds: 2"))] == [0, 1]


def test_the_seed_is_not_for_the_command_line_to_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seed is what a sweep varies"):
        read_sweep(written(tmp_path, "seeds: 2"), {"seed": 1})


def test_a_grid_may_go_on_where_a_row_ends(tmp_path: Path) -> None:
    text = "rows: {a: {method: dml, data.per_class: 12}}\ngrid: {method.temperature: [1, 3], data: [digits]}"
    entries = read_sweep(written(tmp_path, text))
    assert [entry.config.method.settings["temperature"] for entry in entries] == [1, 3]
    assert {entry.config.data.per_class for entry in entries} == {12}


@pytest.mark.parametrize("key", ["optimizer.lr", "optimizer"])
def test_a_key_of_the_grid_is_not_for_the_command_line_to_set(key: str, tmp_path: Path) -> None:
    path = written(tmp_path, "grid: {optimizer.lr: [0.05, 0.1], epochs: [1, 2]}")
    with pytest.raises(UserError, match=rf"optimizer\.lr is set here, and by the command line \({key}\)"):
        read_sweep(path, {key: 0.1})
    assert len(read_sweep(path, {"batch_size": 32})) == 4


@pytest.mark.parametrize(
    ("gpus", "message"),
    [("x,y", "--gpus 'x,y': expected numbers"), ("", "--gpus '': expected"), ("-1", "--gpus '-1': expected")],
)
def test_gpus_that_are_no_numbers_are_refused(gpus: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_gpus(gpus)


@pytest.mark.parametrize("words", [["sweep", "tiny.yaml"], ["sweep", "tiny.yaml", "--dry-run"], ["stress"]])
def test_gpus_that_are_not_there_are_refused_before_anything_starts(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, SHORT)
    refused = CliRunner().invoke(app, [*words, "--gpus", "0"])
    assert "--gpus 0: PyTorch sees no GPU here. Leave --gpus out" in str(refused.exception)
    assert list(tmp_path.iterdir()) == [path]


def test_gpus_are_counted_among_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert read_gpus(None) == []
    assert read_gpus("1, 0") == ["1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-a1")
    assert read_gpus("1,0") == ["GPU-a1", "5"]
    with pytest.raises(UserError, match=r"no GPU 5 among CUDA_VISIBLE_DEVICES=5,GPU-a1\. PyTorch sees: 0, 1\."):
        read_gpus("0,5")


def test_a_dry_run_finds_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    (good, _), (bad, _) = [
        (entry.config, entry.name)
        for entry in read_sweep(written(tmp_path, SHORT + "rows: {good: {}, bad: {optimizer.lr: 1e38}}"))
    ]
    dry_run(good)
    with pytest.raises(Exception, match="NaN or infinite"):
        dry_run(bad)


def sweep(path: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codistill", "sweep", str(path), "--out", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_failed_run_stops_no_other_and_what_is_finished_is_not_trained_again(tmp_path: Path) -> None:
    path = written(tmp_path, SHORT + "rows: {bad: {optimizer.lr: 1e38}, good: {}}")
    done = sweep(path, tmp_path / "out", "--jobs", "2")
    assert done.returncode == 1
    assert "Failed: bad-seed0: Training diverged" in " ".join(done.stderr.split())
    summary = tmp_path / "out" / "good-seed0" / "summary.json"
    before = summary.read_bytes()
    listed = CliRunner().invoke(app, ["sweep", str(path), "--out", str(tmp_path / "out"), "--list"])
    assert listed.exit_code == 0
    assert "finished" in listed.stdout
    path.write_text(SHORT + "rows: {good: {}, late: {optimizer.lr: 0.05}}")
    assert sweep(path, tmp_path / "out").returncode == 0
    assert summary.read_bytes() == before
    assert (tmp_path / "out" / "late-seed0" / "summary.json").exists()


def test_a_run_that_differs_in_what_is_free_is_kept(tmp_path: Path) -> None:
    (entry,) = read_sweep(written(tmp_path, SHORT))
    config = as_trained(entry.config).model_dump(mode="json")
    (tmp_path / "tiny-seed0").mkdir()
    (tmp_path / "tiny-seed0" / "config.yaml").write_text(yaml.safe_dump({**config, "log_every": 7}))
    assert Job(entry, tmp_path).state == "waiting"


def test_a_finished_run_that_was_told_otherwise_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, SHORT)
    (entry,) = read_sweep(path)
    (tmp_path / "tiny-seed0").mkdir()
    (tmp_path / "tiny-seed0" / "config.yaml").write_text(as_trained(entry.config).to_yaml())
    assert Job(entry, tmp_path).state == "waiting"
    path.write_text(SHORT.replace("epochs: 1", "epochs: 3"))
    (changed,) = read_sweep(path)
    with pytest.raises(UserError, match=r"trained otherwise than the sweep says now; it differs in epochs"):
        Job(changed, tmp_path)


def test_a_run_whose_data_has_another_name_now_may_be_relocated(tmp_path: Path) -> None:
    (entry,) = read_sweep(written(tmp_path, SHORT))
    config = as_trained(entry.config).model_dump(mode="json")
    (tmp_path / "tiny-seed0").mkdir()
    moved = {**config, "data": {**config["data"], "name": "./elsewhere"}}
    (tmp_path / "tiny-seed0" / "config.yaml").write_text(yaml.safe_dump(moved))
    with pytest.raises(UserError, match=r"is called './elsewhere', .* codistill relocate .*tiny-seed0 --data digits"):
        Job(entry, tmp_path)


def test_a_student_that_begins_with_a_file_is_the_same_while_the_file_is(tmp_path: Path) -> None:
    file = tmp_path / "big.safetensors"
    begins = f"base: {{students: {{a: {{name: resnet8, pretrained: {file}}}, b: resnet8}}}}\nrows: {{tiny: {{}}}}\n"
    (entry,) = read_sweep(written(tmp_path, begins))
    begun = as_trained(entry.config).model_dump(mode="json")
    file.write_bytes(b"weights")
    begun["students"]["a"] = as_it_begins(begun["students"]["a"])
    (tmp_path / "tiny-seed0").mkdir()
    (tmp_path / "tiny-seed0" / "config.yaml").write_text(yaml.safe_dump(begun))
    assert Job(entry, tmp_path).state == "waiting"
    file.write_bytes(b"others")
    with pytest.raises(UserError, match=r"it differs in students\.a\.sha256"):
        Job(entry, tmp_path)
    file.unlink()
    assert Job(entry, tmp_path).state == "waiting", "a run needs it no more when it has begun"
    (other,) = read_sweep(written(tmp_path, begins.replace("big", "small")))
    with pytest.raises(UserError, match=r"it differs in students\.a\.pretrained"):
        Job(other, tmp_path)


@pytest.mark.parametrize(
    ("then", "key"),
    [
        ("optimizer: {lr_factors: {b: 10}}", "optimizer.lr_factors.b"),
        ("weights: {'*/peers_kl': 0}", "weights.*/peers_kl"),
        ("data: {per_class: 12}", "data.per_class"),
        ("optimizer: {clip_norm: 5}", "optimizer.clip_norm"),
        ("poison: {student: b, random_labels: 0.5}", "poison"),
    ],
)
def test_a_run_that_was_told_more_than_the_sweep_says_now_is_named(tmp_path: Path, then: str, key: str) -> None:
    rows = "base: {students: {a: resnet8, b: resnet8}, method: dml, tasks: none, BASE}\nrows: {tiny: {}}\n"
    (entry,) = read_sweep(written(tmp_path, rows.replace("BASE", then)))
    (tmp_path / "tiny-seed0").mkdir()
    (tmp_path / "tiny-seed0" / "config.yaml").write_text(as_trained(entry.config).to_yaml())
    (changed,) = read_sweep(written(tmp_path, rows.replace(", BASE", "")))
    with pytest.raises(UserError, match=rf"it differs in {re.escape(key)}"):
        Job(changed, tmp_path)


def test_what_the_data_fills_in_is_not_told_otherwise(tmp_path: Path) -> None:
    text = "base: {students: {a: resnet8, b: resnet8}, method: dml, tasks: [coarse, none]}\n"
    (entry,) = read_sweep(written(tmp_path, text))
    filled = text.replace(
        "tasks: [coarse,", "augment: {padding: 1, flip: false}, tasks: [{name: coarse, superclasses: [0, 1]},"
    )
    (complete,) = read_sweep(written(tmp_path, filled))
    (tmp_path / "tiny-seed0").mkdir()
    (tmp_path / "tiny-seed0" / "config.yaml").write_text(as_trained(complete.config).to_yaml())
    assert Job(entry, tmp_path).state == "waiting"


def test_a_stopped_sweep_saves_its_run_and_goes_on_with_it(tmp_path: Path) -> None:
    (entry,) = read_sweep(written(tmp_path, SHORT.replace("epochs: 1", "epochs: 400")))
    job, stop = Job(entry, tmp_path), StopRequest(lambda text: None)

    def stop_after_an_epoch(jobs: object) -> None:
        if job.progress:
            stop.number = signal.SIGTERM

    train_all([job], side_by_side=1, gpus=[], show=stop_after_an_epoch, stop=stop)
    assert job.state == "stopped"
    assert "Go on with" in job.last_words
    again, stop = Job(entry, tmp_path), StopRequest(lambda text: None)
    first = int((job.progress or {})["epoch"])

    def stop_when_further(jobs: object) -> None:
        if int((again.progress or {"epoch": 0})["epoch"]) > first:
            stop.number = signal.SIGTERM

    train_all([again], side_by_side=1, gpus=[], show=stop_when_further, stop=stop)
    assert again.state == "stopped"


def test_a_run_that_is_stopped_before_it_listens_has_not_failed(tmp_path: Path) -> None:
    (entry,) = read_sweep(written(tmp_path, SHORT))
    job, stop = Job(entry, tmp_path), StopRequest(lambda text: None)

    def stop_at_once(jobs: object) -> None:
        stop.number = signal.SIGTERM

    train_all([job], side_by_side=1, gpus=[], show=stop_at_once, stop=stop)
    assert job.state == "stopped"
    assert Job(entry, tmp_path).state == "waiting"
