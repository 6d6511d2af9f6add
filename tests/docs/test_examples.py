"""Every example runs from top to bottom, each in a process of its own, and says what its reader should see."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNNER = Path(__file__).parents[1] / "run_example.py"


def run(name: str, folder: Path) -> str:
    """What an example prints with one epoch, in an empty folder."""
    arguments = [] if name.endswith(".ipynb") else ["--epochs", "1"]
    environment = {**os.environ, "EPOCHS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(RUNNER), str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("plain_loop.py", {"small/ce", "small/rotation", "large/supcon", "cpm/ce", "cpm/small_kl", "large/peers_kl"}),
        ("custom_task.py", {"a/ce", "b/ce", "a/brightness", "a/peers_kl", "b/peers_kl"}),
        ("custom_method.py", {"a/ce", "a/peers_kl", "b/peers_kl", "c/peers_kl"}),
        ("custom_backbone.py", {"own/ce", "resnet/ce", "own/cpm_kl", "cpm/own_kl", "resnet/peers_kl"}),
        ("timm_pair.py", {"mobile/ce", "resnet/ce", "mobile/peers_kl", "resnet/peers_kl"}),
    ],
)
def test_an_example_trains_and_prints_its_losses_and_accuracies(name: str, losses: set[str], tmp_path: Path) -> None:
    if name == "timm_pair.py" and not find_spec("timm"):
        pytest.skip("timm is not installed")
    printed = run(name, tmp_path)
    epoch = next(line for line in printed.splitlines() if line.startswith("epoch 1: "))
    assert losses <= set(re.findall(r"(\S+) \d+\.\d{3}", epoch))
    accuracies = [float(percent) for percent in re.findall(r"(\d+\.\d)%", printed)]
    assert len(accuracies) >= 2
    assert max(accuracies) > 15  # guessing has 10


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    printed = run("quickstart.ipynb", tmp_path)
    assert "epoch 1/1" in printed
    assert "it reads" in printed
    assert (tmp_path / "runs" / "quickstart" / "students" / "small.safetensors").exists()


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in here for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")])
