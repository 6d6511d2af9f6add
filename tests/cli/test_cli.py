"""The command line as a user meets it, in an empty folder."""

import io
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
import typer
from click.testing import Result
from typer.testing import CliRunner

from codistill.cli import main
from codistill.cli.main import COMMANDS, app
from codistill.data.cache import cached
from codistill.data.cache_entry import Contents

SHORT = ["method=collaborative", "tasks=jigsaw", "epochs=1", "data.per_class=12", "batch_size=32"]


def codistill(
    folder: Path, *arguments: str, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "codistill.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, preexec_fn=before)


def asked(*arguments: str) -> Result:
    """What a command says in this process: starting one takes longer than what most of these do."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which two runs were trained, a (two seeds)."""
    folder = tmp_path_factory.mktemp("user")
    for seed in ("0", "1"):
        done = codistill(folder, "train", *SHORT, "log_every=1", f"seed={seed}", f"run=runs/a{seed}")
        assert done.returncode == 0, done.stderr
        assert "for training only 63,426 (0.41x)" in done.stdout
        assert f"Run folder: runs/a{seed}" in done.stdout
        assert done.stdout.startswith(
            "digits: 120 train, 120 validation, 599 test images of 10 classes (0, 1, 2, ...); test is"
        )
        marks = r"resnet8_1 ce \d\.\d{3}  resnet8_2 ce \d\.\d{3}"
        assert re.search(rf"step 1/3  epoch 1/1  (\S+ left  )?objective \d+\.\d{{3}}  {marks}", done.stdout)
    return folder


def test_train_then_evaluate_then_compare(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated = codistill(trained, "evaluate", "runs/a0")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "Equal to the run's summary." in evaluated.stdout
    monkeypatch.chdir(trained)
    compared = asked("compare", "runs/a0", "runs/a1", "--markdown")
    assert compared.exit_code == 0, compared.stderr
    accuracies = [
        json.loads((trained / "runs" / run / "summary.json").read_text())["test_accuracy"]["ensemble"]
        for run in ("a0", "a1")
    ]
    assert f"| {sum(accuracies) / 2:.2f} ± " in compared.stdout


def test_a_run_without_a_name_gets_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert asked("train", *SHORT, "method=independent").exit_code == 0
    (run,) = tmp_path.glob("runs/*_independent-seed0")
    assert (run / "summary.json").exists()


def test_a_finished_run_is_written_over_when_told(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # otherwise not: test_bad_input.py
    before = (trained / "runs" / "a0" / "summary.json").stat().st_mtime_ns
    monkeypatch.chdir(trained)
    assert asked("train", *SHORT, "run=runs/a0", "--overwrite").exit_code == 0
    assert (trained / "runs" / "a0" / "summary.json").stat().st_mtime_ns > before


def test_bad_input_ends_the_process_with_one_clear_line_and_exit_code_2(tmp_path: Path) -> None:
    done = codistill(tmp_path, "train", "batchsize=4")  # what else can be wrong: test_bad_input.py
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Unknown key 'batchsize'. Did you mean 'batch_size'?")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_the_cache_is_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODISTILL_CACHE", str(tmp_path / "cache"))
    cached(Contents("/data/cats", "", "train", "image", "", None), torch.zeros(1500, 8, 10, 3, dtype=torch.uint8), 1500)
    listed = asked("cache")
    assert listed.exit_code == 0, listed.stderr
    assert all(word in listed.stdout for word in ("/data/cats", "train", "1,500 of 10x8", "0.4", "Entries: 1 (0.4 MB"))
    assert "Entries removed: 0 (0.0 MB)" in asked("cache", "--clear", "--older-than", "1").stdout
    assert "Entries removed: 1 (0.4 MB)" in asked("cache", "--clear").stdout
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_is_listed_by_data_then_split_then_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODISTILL_CACHE", str(tmp_path / "cache"))
    order = [("/cats", "test", "a"), ("/cats", "train", "a"), ("/cats", "train", "b"), ("/dogs", "test", "a")]
    for number in (2, 3, 1, 0):
        data, split, rows = order[number]
        contents = Contents(data, "", split, "image", rows, None)
        cached(contents, torch.zeros(number + 1, 4, 4, 3, dtype=torch.uint8), number + 1)
        os.utime(tmp_path / "cache" / f"{contents.key}.json", (1e9 + number * 1e6,) * 2)
    listed = asked("cache").stdout
    assert re.findall(r"(\d) of 4x4", listed) == ["1", "2", "3", "4"]


def test_a_name_that_a_terminal_cannot_write_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
        patched.setattr(main, "app", lambda: print("Löwe", flush=True))
        main.main()
        assert written.getvalue() == b"L\\xf6we\n"


def test_who_interrupts_before_anything_begins_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    done = codistill(tmp_path, "train")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_who_learns_what_is_said_at_the_start_and_heads_larger_than_the_students_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = asked("train", *SHORT, "tasks=[{name: supcon, width: 3000},rotation]", "run=r")
    assert done.exit_code == 0, done.stderr
    assert "Method collaborative, students resnet8_1 (supcon), resnet8_2 (rotation)." in done.stdout.splitlines()[1]
    assert "Warning: The parts for training only have" in done.stdout.splitlines()[3]


def test_a_diverging_run_says_which_loss_and_what_to_try(tmp_path: Path) -> None:
    done = codistill(tmp_path, "train", *SHORT, "optimizer.lr=1e30", "optimizer.warmup_epochs=0", "run=r")
    assert done.returncode == 1
    assert "Training diverged: " in done.stderr
    assert "is NaN or infinite" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_too_small_for_a_checkpoint_is_told_with_how_to_go_on(tmp_path: Path) -> None:
    def nearly_full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))

    done = codistill(tmp_path, "train", *SHORT, "run=r", before=nearly_full)
    assert done.returncode == 1
    assert "Training stopped: 'r/checkpoint.pt' could not be written: File too large. It needs " in done.stderr
    assert "Nothing that was saved before is lost." in done.stderr
    assert "then go on with: codistill train --resume r\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"config.yaml", "metrics.jsonl", ".lock"}
    assert codistill(tmp_path, "train", "--resume", "r").returncode == 0


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("methods", ["independent", "dml", "arXiv:1706.00384", "collaborative", "SSRN 5217092"]),
        ("tasks", ["rotation", "SLA", "contrastive", "SSKD", "supcon", "Khosla"]),
        ("models", ["resnet8", "resnet110", "1,736,564", "timm/NAME"]),
    ],
)
def test_what_exists_is_listed_one_line_each_with_its_paper(command: str, expected: list[str]) -> None:
    listed = asked(command).stdout
    assert all(word in listed for word in expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["methods", "show", "okddip"], ["1912.00350", "leader", "forward passes per student and step"]),
        (["tasks", "show", "jigsaw"], ["grid", "1603.09246", "training-only parameters"]),
    ],
)
def test_one_choice_is_shown_with_formula_settings_and_cost(arguments: list[str], expected: list[str]) -> None:
    shown = asked(*arguments).stdout
    assert all(word in shown for word in expected)
    assert "Unknown" in str(asked(*arguments[:2], "nothing").exception)


def test_the_help_names_every_key_with_its_default() -> None:
    shown = asked("train", "--help").stdout
    for word in ("optimizer.weight_decay", "0.0005", "data.per_class", "--resume", "codistill train recipes/"):
        assert word in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_of_itself_what_the_list_of_commands_says(name: str) -> None:
    command = typer.main.get_command(import_module(f"codistill.cli.{name}").app)
    assert (command.help or "").startswith(COMMANDS[name])


def test_help_comes_without_loading_torch(tmp_path: Path) -> None:
    script = "import sys; from codistill.cli.main import app\ntry: app(['--help'])\n"
    script += "finally: assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in COMMANDS)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and an empty folder beside it as the working folder."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_a_run_in_the_home_is_made_there_and_not_in_a_folder_of_that_name(home: Path) -> None:
    (home / "recipe.yaml").write_text("method: independent\ntasks: none\n")
    assert asked("train", "~/recipe.yaml", *SHORT, "run=~/a run").exit_code == 0
    assert (home / "a run" / "summary.json").exists()
    assert not list(Path().iterdir())
    assert f"Run '{home}/a run' is finished" in str(asked("train", "--resume", "~/a run").exception)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["evaluate", "~/x"], ["export", "~/x"], ["predict", "~/x", "a.png"], ["report", "~/x"], ["bench", "~/x"]),
        *(["compare", "~/x"], ["analyse", "~/x"], ["sweep", "~/x"], ["stress", "~/x"], ["plan", "~/x"]),
    ],
)
def test_every_command_that_is_given_a_path_finds_it_in_the_home(arguments: list[str], home: Path) -> None:
    assert f"'{home}/" in str(asked(*arguments).exception)


def test_what_is_written_goes_to_the_home_when_told_so(home: Path, trained: Path) -> None:
    assert asked("export", str(trained / "runs" / "a0"), "--out=~/small").exit_code == 0
    assert (home / "small" / "export.json").exists()
    sweep = Path("sweep.yaml")
    sweep.write_text("base: ~/base.yaml\n")
    (home / "base.yaml").write_text("epochs: 1\n")
    assert "0/1" in asked("sweep", "sweep.yaml", "--list", "--out=~/runs").stdout
    assert list(Path().iterdir()) == [sweep]
