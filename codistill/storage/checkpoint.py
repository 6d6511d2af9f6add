"""Checkpoints that say whether they are whole.

    checkpoint.pt           after the last saved step
    checkpoint.previous.pt  the one before it, in case the last one is damaged

The last line of a checkpoint is the SHA-256 of all bytes before it, so that the two cannot be out of step. PyTorch
does not mind that line: ``torch.load("checkpoint.pt", weights_only=True)`` reads the file as it is.
"""

import hashlib
import io
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from codistill.errors import UserError, first_line
from codistill.storage.atomic_io import write_file
from codistill.storage.run_files import misfits

# What readers rely on.
_KINDS = {"cohort": dict, "optimizer": dict, "config": str, "epochs_done": int, "steps_done": int}
_MARK = b"\nsha256 "
_LAST_LINE = len(_MARK) + 2 * hashlib.sha256().digest_size + 1


def seal(state: dict[str, Any]) -> bytes:
    """A checkpoint as the bytes of its file."""
    file = io.BytesIO()
    torch.save(state, file)
    digest = hashlib.sha256(file.getbuffer()).hexdigest()
    file.write(_MARK + digest.encode() + b"\n")
    return file.getvalue()


def read(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU. Raises UserError if it is missing, cut off, altered, or no run's."""
    if not path.exists():
        raise UserError(f"'{path}' is missing.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}.") from error
    content, last_line = memoryview(data)[:-_LAST_LINE], data[-_LAST_LINE:]
    if not last_line.startswith(_MARK):
        raise UserError(f"'{path}' is damaged: it was cut off, for it does not end with its checksum.")
    if last_line != _MARK + hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise UserError(f"'{path}' is damaged: it was altered, for its checksum is that of other data.")
    try:
        # weights_only: tensors and plain data; code that a file wants to run is refused
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error class of its own
        raise UserError(
            f"'{path}' is no checkpoint: nothing but tensors and plain data is read. {first_line(error)}"
        ) from error
    if not isinstance(state, dict) or list(misfits(state, _KINDS)):
        raise UserError(f"'{path}' is not the checkpoint of a run. Put the run's own back.")
    return state


class Checkpoints:
    """The last checkpoint of a run and the one before."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.last, self.previous = run / "checkpoint.pt", run / "checkpoint.previous.pt"
        self.damaged = run / "checkpoint.damaged.pt"

    @property
    def any(self) -> bool:
        # Whoever is killed between the two renames of a save leaves the previous one alone.
        return self.last.exists() or self.previous.exists()

    def save(self, data: bytes) -> None:
        """Keep what was the last one as the previous one. Raises OSError, and then has changed nothing."""
        write_file(self.last, data, self.previous)

    def recover(self, warn: Callable[[str], None]) -> dict[str, Any]:
        """The last checkpoint that is whole. Raises UserError if none is.

        A damaged one is set aside: the next save would otherwise take it for a previous one worth keeping.
        """
        try:
            return read(self.last)
        except UserError as error:
            trouble = error
        try:
            state = read(self.previous)
        except UserError as error:
            raise UserError(
                f"No checkpoint in '{self.run}' can be used. {trouble} {error} Copy one back from where you may have "
                "kept it, or start again: "
                f"codistill train {shlex.quote(str(self.run / 'config.yaml'))} run=ANOTHER_FOLDER"
            ) from trouble
        aside = ""
        if self.last.exists():
            os.replace(self.last, self.damaged)
            aside = f" The damaged one is now {self.damaged.name}: delete it when you like."
        os.replace(self.previous, self.last)
        warn(f"{trouble} The previous checkpoint is used instead, of epoch {state['epochs_done']}.{aside}")
        return state

    def remove(self) -> None:
        for path in (self.last, self.previous, self.damaged):
            path.unlink(missing_ok=True)
