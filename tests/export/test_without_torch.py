"""In an environment for prediction by ONNX alone: every other command says in one line that it needs PyTorch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_predict import WITHOUT_TORCH, codistill_without_torch

from codistill.cli.main import COMMANDS
from codistill.export import Export

# The same for many commands in one process: their output and exit codes as JSON.
EACH = """
import contextlib, io, json
results = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["codistill", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as ending:
            code = ending.code
    results.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""
WORKING = ("predict", "latency", "doctor", "export")  # by themselves
NEEDS = "Error: This command needs PyTorch (not installed): install codistill with all that it needs: pip install -c"


def each_without_torch(*commands: list[str]) -> list[tuple[int, str, str]]:
    script = WITHOUT_TORCH.removesuffix("main()\n") + EACH
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [tuple(result) for result in json.loads(done.stdout)]


def test_a_command_that_needs_torch_says_so_in_one_line() -> None:
    commands = [name for name in COMMANDS if name not in WORKING]
    for name, (code, out, err) in zip(commands, each_without_torch(*([name] for name in commands)), strict=True):
        assert (code, out, err.count("\n")) == (2, "", 1), name
        assert err.startswith("Error: This command needs "), name
        assert name in ("compare", "report", "cache") or err.startswith(NEEDS), name


def test_help_comes_without_torch_and_says_what_the_command_is_for() -> None:
    commands = list(COMMANDS)
    for name, (code, out, err) in zip(commands, each_without_torch(*([n, "--help"] for n in commands)), strict=True):
        assert (code, err) == (0, ""), name
        assert COMMANDS[name][:30] in out, name
        assert name in WORKING or "This command needs " in out, name
        assert name in WORKING or "docs/configuration.md lists all KEY=VALUE" in out, name


@pytest.mark.parametrize("command", ["predict", "latency"])
def test_what_only_torch_can_answer_is_told_to_need_it(
    command: str, run: Path, exported: Callable[..., Export], images: Path
) -> None:
    more = [str(images)] if command == "predict" else []
    (code, out, err), (other_code, other_out, other_err) = each_without_torch(
        [command, str(run), *more], [command, str(exported("safetensors").folder), *more]
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"Error: A student of a run, '{run}', needs PyTorch (not installed)")
    assert (other_code, other_out, other_err.count("\n")) == (2, "", 1)
    assert other_err.startswith("Error: An export to safetensors needs PyTorch (not installed)")


def test_a_command_that_needs_torch_later_on_says_so_too(run: Path) -> None:
    done = codistill_without_torch("export", [run])
    assert done.returncode == 2
    assert done.stderr.startswith(NEEDS)
    assert done.stderr.count("\n") == 1


def test_the_doctor_says_what_is_missing_and_how_to_get_it() -> None:
    done = codistill_without_torch("doctor", [])
    assert done.returncode == 1
    assert "it cannot be imported" not in done.stdout
    assert "not installed" in next(line for line in done.stdout.splitlines() if line.startswith("torch "))
    assert done.stderr.startswith("Missing or faulty: ")
    assert "torch, datasets, safetensors" in done.stderr
    assert "pip install -c constraints.txt -e ." in done.stderr
    checked = codistill_without_torch("doctor", ["--resume-check"])
    assert checked.returncode == 2
    assert "Error: --resume-check needs PyTorch" in checked.stderr
