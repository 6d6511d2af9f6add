"""Reading the files of a run as plain data: all that reports may know of it. No torch in here."""

import json
from collections.abc import Callable
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
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}.") from error


def read_config(run: Path) -> dict[str, Any]:
    """config.yaml as plain data."""
    return _mapping(run, "config.yaml", yaml.safe_load)


def read_summary(run: Path) -> dict[str, Any]:
    """summary.json; only finished runs have one."""
    return _mapping(run, "summary.json", json.loads)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut off when its process was killed is left out."""
    lines = read_bytes(run, "metrics.jsonl").split(b"\n")
    try:
        return [json.loads(line) for line in lines[:-1]]  # whole lines end with a newline
    except ValueError as error:
        raise UserError(f"'{run}/metrics.jsonl' is damaged: {error}") from error


def _mapping(run: Path, name: str, parse: Callable[[bytes], Any]) -> dict[str, Any]:
    try:
        content = parse(read_bytes(run, name))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"'{run}/{name}' is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise UserError(f"'{run}/{name}' is damaged: it holds no keys and values.")
    return content
