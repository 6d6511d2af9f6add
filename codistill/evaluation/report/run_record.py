"""All that the files of one run tell, finished or not: what is missing is None, and says nothing worse."""

import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codistill.errors import UserError
from codistill.errors.nearest import did_you_mean, similar_path
from codistill.errors.printable import printable
from codistill.evaluation.compare.rows import ALONE
from codistill.metrics.raw import Raw, read_raw, read_tensors
from codistill.storage import run_files

Arrays = dict[str, NDArray[Any]]


class Pictures(NamedTuple):
    """Images of outputs/NAME.safetensors with what is said of each: arrays (n, ...), and metadata."""

    arrays: Arrays
    about: dict[str, Any]


class Story(NamedTuple):
    """One run."""

    path: Path
    name: str
    config: dict[str, Any]
    epochs: list[dict[str, Any]]  # lines of metrics.jsonl, one per finished epoch
    last: dict[str, Any] | None  # the last line, also of an interval
    summary: dict[str, Any] | None  # of a finished run
    analysis: dict[str, Any] | None
    raw: Raw | None
    examples: Pictures | None
    fixed: Pictures | None
    training: bool  # whether a process trains it now

    @property
    def students(self) -> list[str]:
        return list(self.config["students"])

    @property
    def alone(self) -> bool:
        """Whether it is a control, without teaching."""
        return bool(self.config["method"]["name"] == ALONE)

    @property
    def state(self) -> str:
        if self.finished:
            return "finished"
        return "running" if self.training else "stopped"

    @property
    def progress(self) -> str:
        """``2 of 4 epochs``."""
        return f"{len(self.epochs)} of {self.config.get('epochs', '?')} epochs"

    @property
    def finished(self) -> bool:
        return self.summary is not None


def find_runs(folder: Path) -> list[Path]:
    """``folder`` if it is a run, else the runs in it, sorted. Raises UserError if there are none."""
    if not folder.is_dir():
        hint = did_you_mean(similar_path(folder, os.path.isdir))
        raise UserError(f"'{folder}' does not exist.{hint} Give a run folder, or a folder of runs.")
    if (folder / "config.yaml").exists():
        return [folder]
    runs = sorted(path.parent for path in folder.glob("*/config.yaml"))
    if not runs:
        raise UserError(
            f"'{folder}' is no run folder, and holds none: there is no config.yaml in it or one level below."
        )
    return runs


def read_story(run: Path) -> Story:
    """Read a run. Raises UserError for a file that is damaged."""
    metrics = run_files.read_metrics(run) if (run / "metrics.jsonl").exists() else []
    finished = (run / "summary.json").exists()
    analysed = finished and (run / run_files.ANALYSES["test"]).exists()
    summary = run_files.read_summary(run) if finished else None
    return Story(
        run,
        printable(run.resolve().name),
        run_files.read_config(run),
        [line for line in metrics if line["kind"] == "epoch" and isinstance(line.get("losses"), dict)],
        metrics[-1] if metrics else None,
        summary,
        run_files.read_analysis(run) if analysed else None,
        _raw(run, summary.get("sha256", {})) if summary and analysed else None,
        _pictures(run, "examples") if analysed else None,
        _pictures(run, "fixed") if analysed else None,
        not finished and run_files.is_training(run),
    )


def _raw(run: Path, sha256: dict[str, str]) -> Raw | None:
    """The answers to the test images, if they are of the weights that the run has now."""
    raw = read_raw(run, "test") if (run / "outputs" / "test.safetensors").exists() else None
    return raw if raw is not None and raw.sha256 == sha256 else None


def _pictures(run: Path, name: str) -> Pictures | None:
    path = run / "outputs" / f"{name}.safetensors"
    if not path.exists():
        return None
    arrays, about = read_tensors(path)
    pixels = arrays.get("images")
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        again = shlex.join(["codistill", "analyse", str(run)])
        raise UserError(f"'{path}' holds no images. Delete it, and make it anew: {again}")
    return Pictures(arrays, dict(about))
