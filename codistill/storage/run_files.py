"""Reading the files of a run as plain data: all that reports may know of it. No torch in here."""

import json
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from codistill.errors import UserError, first_line
from codistill.errors.nearest import did_you_mean, similar_path
from codistill.storage.yaml import read_yaml

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None  # type: ignore[assignment]

# What readers of a run rely on, and its kind. A file without it is not as a run wrote it.
_NUMBER = (int, float)
_NOTHING = type(None)
_CONFIG = {"students": dict, "tasks": list, "method": {"name": str}, "seed": int}
_RECORD = {"kind": str, "epoch": int, "step": int}  # a line of metrics.jsonl
ANALYSES = {"test": "analysis.json", "validation": "analysis_validation.json"}  # by the split that was analysed
_ANALYSIS = {
    **{"version": int, "data": str, "students": dict, "pairs": dict, "advantages": dict},
    "ensemble": (dict, _NOTHING),  # nothing of one student
}
_ACCURACY = {"students": dict, "teacher": (*_NUMBER, _NOTHING), "ensemble": (*_NUMBER, _NOTHING)}
_SUMMARY = {
    "test_accuracy": _ACCURACY,
    "parameters": {"students": dict, "training_only": int},
    "seconds": _NUMBER,
    "seed": int,
}
_NO_STUDENTS = ("teacher", "ensemble", "students' mean", "run", "method", "tasks", "seeds", "training-only parameters")


def told_apart(student: str) -> str:
    """What a student is called among figures that are not students': ``student teacher`` if its name is theirs."""
    return f"student {student}" if student in _NO_STUDENTS else student


def is_training(run: Path) -> bool:
    """Whether a process trains in a run folder now: it holds the lock, however an earlier one ended. Where locks cannot
    be asked for, an unfinished run that has one is taken to be trained."""
    try:
        with (run / ".lock").open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file gives it back
                return False
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return not (run / "summary.json").exists()


def read_bytes(run: Path, name: str) -> bytes:
    """One file of a run folder. Raises UserError where it is missing, with the likely reason."""
    if not run.is_dir():
        raise UserError(f"Run folder '{run}' does not exist.{did_you_mean(similar_path(run, os.path.isdir))}")
    path = run / name
    if not path.exists():
        unfinished = " The run is not finished." if (run / "config.yaml").exists() else " Is it a run folder?"
        raise UserError(f"'{run}' has no {name}.{unfinished}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}.") from error


def read_config(run: Path) -> dict[str, Any]:
    """config.yaml as plain data, with what runs of earlier versions left unsaid."""
    return of_today(_mapping(run, "config.yaml", read_yaml, _CONFIG))


def of_today(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration that a run was trained with, with the keys that came later as they stood for it then."""
    config, method = {"burn_in": 0.0, **config}, config.get("method")
    if isinstance(method, dict) and method.get("name") == "collaborative":
        config["method"] = {"grid": None, **method}  # the CPM worked on the whole of the smallest map
    return config


def read_summary(run: Path) -> dict[str, Any]:
    """summary.json; only finished runs have one."""
    summary = _mapping(run, "summary.json", json.loads, _SUMMARY)
    # Later additions, which summaries of earlier versions lack; null where there were no validation images.
    times = {"training_seconds": _NUMBER, "processor_seconds": _NUMBER}
    images = {"fingerprint": str, "fingerprints": dict}
    later = {"test_accuracy_selected": _ACCURACY, "forward_passes": dict, "processes": int, **images, **times}
    known = {key: kind for key, kind in later.items() if summary.get(key) is not None}
    if wrong := list(misfits(summary, known)):
        raise UserError(f"'{run}/summary.json' is damaged: {', '.join(wrong)} holds another kind of value.")
    return summary


def read_analysis(run: Path, split: str = "test") -> dict[str, Any]:
    """What ``codistill analyse`` found; docs/metrics.md tells its keys."""
    if not (run / ANALYSES[split]).exists() and (run / "summary.json").exists():
        command = shlex.join(["codistill", "analyse", str(run), "--data", split])
        raise UserError(f"'{run}' has no {ANALYSES[split]}. Make it: {command}")
    return _mapping(run, ANALYSES[split], json.loads, _ANALYSIS)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut off when its process was killed is left out."""
    lines = read_bytes(run, "metrics.jsonl").split(b"\n")
    try:
        records = [json.loads(line) for line in lines[:-1]]  # whole lines end with a newline
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{run}/metrics.jsonl' is damaged: {error}") from error
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or list(misfits(record, _RECORD)):
            raise UserError(f"'{run}/metrics.jsonl' is damaged: line {number} is none that a run wrote.")
    return records


def differing_keys(ours: str, theirs: str, free: Collection[str] = ()) -> list[str]:
    """``optimizer.lr (0.1, not 0.2)`` for each key in which two texts of config.yaml differ; the first is our value.

    free: keys that may differ.
    """
    return list(_differing(read_yaml(ours), read_yaml(theirs), free))


def misfits(content: Mapping[str, Any], kinds: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that ``content`` lacks, or where its value is not of the kind that ``kinds`` names."""
    for key, kind in kinds.items():
        if not isinstance(content.get(key), Mapping if isinstance(kind, Mapping) else kind):
            yield f"{prefix}{key}"
        elif isinstance(kind, Mapping):
            yield from misfits(content[key], kind, f"{prefix}{key}.")


def _differing(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], free: Collection[str], prefix: str = ""
) -> Iterator[str]:
    for key in {**ours, **theirs}:
        one, other = ours.get(key), theirs.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differing(one, other, free, f"{prefix}{key}.")
        elif one != other and f"{prefix}{key}" not in free:
            yield f"{prefix}{key}" if isinstance(one, list) else f"{prefix}{key} ({one}, not {other})"


def _mapping(run: Path, name: str, parse: Callable[[bytes], Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = parse(read_bytes(run, name))
    except (ValueError, RecursionError) as error:  # the latter of brackets in brackets in brackets
        raise UserError(f"'{run}/{name}' is damaged: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"'{run}/{name}' is damaged: it holds no keys and values.")
    if wrong := list(misfits(content, kinds)):
        raise UserError(
            f"'{run}/{name}' is damaged: it lacks {', '.join(wrong)}, or holds another kind of value there."
        )
    return content
