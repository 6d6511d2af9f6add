"""A run in a process of its own, as ``codistill train`` trains it; what it prints goes to a file."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


def words_to_train(run: Path, recipe: Path) -> list[str]:
    """Begin a run from its recipe, or go on after its last saved step."""
    return ["--resume", str(run)] if (run / "config.yaml").exists() else [str(recipe), f"run={run}"]


def start_training(
    words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """``codistill train`` with these words; environment: of this process, if None."""
    with log.open("ab") as file:
        # A session of its own: Ctrl-C reaches the caller alone, which asks each run to stop, once.
        return subprocess.Popen(
            [sys.executable, "-m", "codistill", "train", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )


def last_words(log: Path) -> str:
    """The end of what a run printed: why it failed."""
    with suppress(OSError):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line]
        return lines[-1] if lines else ""
    return ""
