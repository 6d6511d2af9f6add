"""Reading the files of finished runs, without torch: all that reports may know of a run."""

import json
from pathlib import Path
from typing import Any

import yaml

from codistill.errors import UserError


def read_bytes(run: Path, name: str) -> bytes:
    """One file of a run folder. Raises UserError where it is missing, with the likely reason."""
    if not run.is_dir():
        raise UserError(f"Run folder '{run}' does not exist.")
    path = run / name
    if not path.exists():
        unfinished = " The run is not finished." if (run / "config.yaml").exists() else " Is it a run folder?"
        raise UserError(f"'{run}' has no {name}.{unfinished}")
    return path.read_bytes()


def read_config(run: Path) -> dict[str, Any]:
    """config.yaml as plain data."""
    config: dict[str, Any] = yaml.safe_load(read_bytes(run, "config.yaml"))
    return config


def read_summary(run: Path) -> dict[str, Any]:
    """summary.json; only finished runs have one."""
    summary: dict[str, Any] = json.loads(read_bytes(run, "summary.json"))
    return summary


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in read_bytes(run, "metrics.jsonl").splitlines()]
