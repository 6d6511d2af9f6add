"""One run, one folder.

    config.yaml               complete: it alone reproduces the run
    metrics.jsonl             one line per log interval and per epoch
    checkpoint.pt             the whole cohort and optimizer after the last finished epoch
    students/NAME.safetensors one student alone, after training
    summary.json              written last: a folder that has one is finished

Files are written beside their place and renamed, so that nobody ever reads half of one; a line of metrics.jsonl is
added in one write.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codistill import run_files
from codistill.errors import UserError


def damaged(path: Path, error: Exception) -> UserError:
    """What to say of a file that cannot be read."""
    return UserError(f"'{path}' is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}")


def load_weights(module: nn.Module, weights: dict[str, Tensor], place: str) -> None:
    """Load weights from the file ``place``. Raises UserError where they are not this module's."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        few = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"The weights in '{place}' do not fit the run's config.yaml. {few[:300]}") from error


class RunFolder:
    """Reads and writes the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        return (self.path / "summary.json").exists()

    def start(self, config_yaml: str, overwrite: bool = False) -> None:
        """Begin a run here. Raises UserError if one was finished or begun here before, unless told to overwrite."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"Run folder '{self.path}' is a file.")
        if not overwrite and self.finished:
            raise UserError(
                f"Run folder '{self.path}' already holds a finished run. Choose another run=..., or add --overwrite."
            )
        if not overwrite and (self.path / "checkpoint.pt").exists():
            raise UserError(
                f"Run folder '{self.path}' holds an unfinished run. "
                f"Go on with 'codistill train --resume {self.path}', choose another run=..., or add --overwrite."
            )
        if not overwrite and self.path.exists() and any(self.path.iterdir()):
            raise UserError(f"Run folder '{self.path}' is not empty. Choose another run=..., or add --overwrite.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in ("summary.json", "checkpoint.pt", "metrics.jsonl"):
                (self.path / name).unlink(missing_ok=True)
            for stale in self.path.glob("students/*.safetensors"):
                stale.unlink()
            self._write_text("config.yaml", config_yaml)
        except OSError as error:
            raise UserError(f"Run folder '{self.path}' cannot be written: {error.strerror}.") from error

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl, whole, in one write. The file grows long: writing it anew would not end."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def keep_log_until(self, epoch: int) -> None:
        """Take up the log of an interrupted run, without lines of epochs after ``epoch`` (they will come again)."""
        kept = [json.dumps(line) + "\n" for line in run_files.read_metrics(self.path) if line["epoch"] <= epoch]
        self._write_text("metrics.jsonl", "".join(kept))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        self._write("checkpoint.pt", lambda path: torch.save(state, path))

    def load_checkpoint(self) -> dict[str, Any]:
        """The checkpoint, on the CPU. Raises UserError if there is none, or if it cannot be read."""
        path = self.path / "checkpoint.pt"
        if not path.exists():
            raise UserError(f"Run folder '{self.path}' has no checkpoint.pt: no epoch was finished there.")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load has no error class of its own for a damaged file
            raise damaged(path, error) from error
        return state

    def save_student(self, name: str, weights: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """One student's weights as safetensors; metadata values are stored as JSON."""
        (self.path / "students").mkdir(exist_ok=True)
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
        texts = {key: json.dumps(value) for key, value in metadata.items()}
        self._write(f"students/{name}.safetensors", lambda path: save_file(plain, path, texts))

    def load_student(self, name: str) -> dict[str, Tensor]:
        path = self.path / "students" / f"{name}.safetensors"
        if not path.exists():
            raise UserError(f"Run folder '{self.path}' has no weights of student '{name}': the run is not finished.")
        try:
            return load_file(path)
        except Exception as error:  # nor has safetensors
            raise damaged(path, error) from error

    def save_summary(self, summary: dict[str, Any]) -> None:
        self._write_text("summary.json", json.dumps(summary, indent=2) + "\n")

    def _write_text(self, name: str, text: str) -> None:
        self._write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def _write(self, name: str, write: Callable[[Path], Any]) -> None:
        final = self.path / name
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            write(temporary)
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
