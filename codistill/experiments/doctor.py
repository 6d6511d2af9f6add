"""A proof that a killed run goes on here as if nothing had happened."""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from codistill.config.schema import make_config
from codistill.errors import UserError
from codistill.storage import checkpoint, run_files
from codistill.training import restore, trainer
from codistill.training.display import Silent

TINY = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": "jigsaw",
    "method": "collaborative",
    "data": {"name": "digits", "per_class": 4, "validation": 0.02},
    "batch_size": 20,
    "epochs": 12,
    "log_every": 1,
}
# May differ between equal runs.
CLOCK = ("images_per_second", "steps_timed", "training_seconds", "processor_seconds", "total_seconds")


def check_resume() -> tuple[str, str | None]:
    """Train a tiny run whole; train it again, kill it with SIGKILL in the middle, and resume it.

    Returns what was compared, and the first difference if there is one.
    """
    with tempfile.TemporaryDirectory(prefix="codistill-doctor-") as folder:
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        trainer.train(make_config(TINY), whole, Silent())
        _train_and_kill(whole / "config.yaml", broken)
        trainer.train(restore.read_run_config(broken), broken, Silent(), resume=True)
        facts = _facts(whole)
        files = Counter(name.split(": ")[0] for name in facts)
        return ", ".join(f"{file} ({count})" for file, count in files.items()), first_difference(whole, broken)


def first_difference(one: Path, other: Path) -> str | None:
    """Where two finished runs differ, timings aside; None where they are equal bit for bit."""
    here, there = _facts(one), _facts(other)
    for name in [*here, *(name for name in there if name not in here)]:
        if name not in here or name not in there:
            return f"{name} is in one run only"
        if not _equal(here[name], there[name]):
            return f"{name} differs"
    return None


def _train_and_kill(recipe: Path, run: Path) -> None:
    """Train in another process, and kill it in the third epoch or later."""
    command = [sys.executable, "-m", "codistill.cli.main", "train", str(recipe), f"run={run}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not _in_third_epoch(run):
            time.sleep(0.002)
    finally:
        process.kill()
    _, said = process.communicate()
    if process.returncode != -9:
        raise UserError(f"The run that should be killed ended by itself. {said.strip()[-300:]}")


def _in_third_epoch(run: Path) -> bool:
    if not (run / "metrics.jsonl").exists():
        return False
    lines = run_files.read_metrics(run)
    return bool(lines) and lines[-1]["kind"] == "interval" and lines[-1]["epoch"] >= 3


def _facts(run: Path) -> dict[str, Any]:
    """All that should be equal, by file and place: ``checkpoint: cohort.students.a.classifier.weight``."""
    facts: dict[str, Any] = {}

    def gather(place: str, value: Any) -> None:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                gather(f"{place}.{key}", inner)
        else:
            facts[place.replace(".", ": ", 1)] = value

    saved = checkpoint.read(run / "checkpoint.pt")
    for key in ("warned", "told"):  # that a run goes on may be worth a warning; texts that were shown
        saved.pop(key, None)
    gather("checkpoint", _timeless(saved))
    gather("metrics", [_timeless(line) for line in run_files.read_metrics(run)])
    summary = run_files.read_summary(run)
    gather("summary", {key: summary[key] for key in ("test_accuracy", "test_accuracy_selected")})
    for path in sorted((*run.glob("students/*"), *run.glob("outputs/*"))):
        with safe_open(path, framework="pt") as file:  # not byte by byte: safetensors orders metadata at random
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            about = file.metadata() or {}
            about.pop("sha256", None)  # of the students' files, with their metadata in some order
            gather(f"{path.parent.name}.{path.stem}", {"metadata": about, **tensors})
    return facts


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in CLOCK}


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return bool(type(a) is type(b) and a == b)
    bits = [tensor.contiguous().flatten().view(torch.uint8) for tensor in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
