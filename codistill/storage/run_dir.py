"""One run, one folder.

    config.yaml               complete: it alone reproduces the run
    metrics.jsonl             one line per log interval and per epoch
    checkpoint.pt             the whole cohort and optimizer after the last saved step
    checkpoint.previous.pt    the one before, until the run is finished
    students/NAME.safetensors one student alone, after training
    students/NAME.best.safetensors  the same of the epoch with the best validation accuracy, if there are such images
    outputs/test.safetensors  predictions of every test image, after training (``codistill.training.predictions``)
    outputs/answers.safetensors  predicted classes of some validation images after each epoch
    summary.json              written last: a folder that has one is finished
    bad_batch.safetensors     the batch on which training diverged, if it did
    trackers.json             each experiment tracker's own name for the run, if there are trackers
    tensorboard/              TensorBoard's files, if it is one of them
    .lock                     held while a process trains here

Files are written beside their place and renamed, so that nobody ever reads half of one; a line of metrics.jsonl is
added in one write.
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from codistill.errors import UserError, first_line
from codistill.storage import atomic_io, checkpoint, lock, run_files
from codistill.storage.hashing import sha256_of
from codistill.storage.run_files import ANALYSES


def ignore(text: str) -> None:
    """For those who read a run, there is nothing to warn of."""


class RunFolder:
    """Reads and writes the files of one run. As a context it ends the lock that ``start`` or ``take_up`` began."""

    def __init__(self, path: Path, warn: Callable[[str], None] = ignore) -> None:
        self.path, self._warn = path, warn
        self._lock = lock.RunLock(path, warn)
        self._checkpoints = checkpoint.Checkpoints(path)
        self.listeners: list[Callable[[dict[str, Any]], None]] = []  # told what was logged

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def finished(self) -> bool:
        return (self.path / "summary.json").exists()

    def check(self, overwrite: bool = False) -> None:
        """Raises UserError if ``start`` would, for what is here now. Nothing is written but the lock of a run."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"Run folder '{self.path}' is a file.")
        try:
            if (self.path / lock.NAME).exists():  # else none is made in a folder that may be somebody else's
                self._lock.acquire()
                if not overwrite:
                    self._check_free()
            elif overwrite:
                self._check_replaceable()
            else:
                self._check_free()
        except OSError as error:
            raise self._not_writable(error) from error

    def start(self, config_yaml: str, overwrite: bool = False) -> None:
        """Begin a run here. Raises UserError if one was finished or begun here before, unless told to overwrite.

        A folder that holds anything else is never written to: what is called like a file of a run may be another's.
        """
        self.check(overwrite)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            if not overwrite:
                self._check_free()
            # The configuration goes first, and comes last: whoever is killed in between leaves nothing to resume.
            (self.path / "config.yaml").unlink(missing_ok=True)
            own = ("summary.json", "metrics.jsonl", "bad_batch.safetensors", "trackers.json", *ANALYSES.values())
            for name in own:
                (self.path / name).unlink(missing_ok=True)
            self._checkpoints.remove()
            for stale in (*self.path.glob("students/*.safetensors*"), *self.path.glob("outputs/*.safetensors")):
                stale.unlink()
            if (self.path / "tensorboard").exists():
                shutil.rmtree(self.path / "tensorboard")
            for stale in (
                *self.path.glob("report.html"),
                *self.path.glob("report/*.svg"),
                *self.path.glob("report/*.png"),
            ):
                stale.unlink()
            atomic_io.write_file(self.path / "config.yaml", config_yaml.encode())
        except OSError as error:
            raise self._not_writable(error) from error

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint."""
        return self._checkpoints.any

    def check_unfinished(self) -> None:
        """Raises UserError for a finished run."""
        if self.finished:
            raise UserError(f"Run '{self.path}' is finished: there is nothing to resume.")

    def take_up(self) -> dict[str, Any] | None:
        """The checkpoint to go on from; None if nothing was saved yet. Raises UserError if there is none to be used."""
        try:
            self._lock.acquire()
            if self._checkpoints.any:
                return self._checkpoints.recover(self._warn)
        except OSError as error:
            raise self._not_writable(error) from error
        self._warn(f"Nothing was saved yet in '{self.path}': training begins anew.")
        return None

    def begin_anew(self, config_yaml: str) -> None:
        """After ``take_up`` found no checkpoint: nothing of the unfinished epoch stays."""
        with self._saving("metrics.jsonl", 0):
            (self.path / "metrics.jsonl").unlink(missing_ok=True)
        self.write_config(config_yaml)

    def write_config(self, config_yaml: str) -> None:
        """Of a run that is there: something of it is otherwise now."""
        self._save("config.yaml", config_yaml.encode())

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl, whole, in one write. The file grows long: writing it anew would not end."""
        line = (json.dumps(record) + "\n").encode()
        with self._saving("metrics.jsonl", len(line)):
            atomic_io.append(self.path / "metrics.jsonl", line)
        for listener in self.listeners:
            listener(record)

    def keep_log_until(self, step: int) -> None:
        """Take up the log of an interrupted run, without lines of later steps (they will come again)."""
        kept = [json.dumps(line) + "\n" for line in run_files.read_metrics(self.path) if line["step"] <= step]
        self._save("metrics.jsonl", "".join(kept).encode())

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Keep the one before, too. What was logged so far is safe with it: a resumed run will not log it again."""
        data = checkpoint.seal(state)
        with self._saving("metrics.jsonl", 0):
            (self.path / "metrics.jsonl").touch()  # nothing is logged before the first interval ends
            atomic_io.bring_to_disk(self.path / "metrics.jsonl")
        with self._saving("checkpoint.pt", len(data)):
            self._checkpoints.save(data)

    def load_checkpoint(self) -> dict[str, Any]:
        """The last checkpoint, on the CPU. Raises UserError if there is none, or if it cannot be read."""
        return checkpoint.read(self.path / "checkpoint.pt")

    def save_student(self, name: str, weights: dict[str, Tensor], metadata: dict[str, Any]) -> str:
        """One student's weights as safetensors; metadata values are stored as JSON. Returns the file's SHA-256."""
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}
        data = save(plain, {key: json.dumps(value) for key, value in metadata.items()})
        self._save(f"students/{name}.safetensors", data)
        return hashlib.sha256(data).hexdigest()

    def save_outputs(self, name: str, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Raw material for ``codistill analyse``; metadata values are stored as JSON."""
        data = save(tensors, {key: json.dumps(value) for key, value in metadata.items()})
        self._save(f"outputs/{name}.safetensors", data)

    def save_analysis(self, split: str, analysis: Mapping[str, Any]) -> None:
        self._save(ANALYSES[split], (json.dumps(analysis, allow_nan=False) + "\n").encode())

    def save_bad_batch(self, tensors: dict[str, Tensor], metadata: dict[str, int]) -> Path:
        """The batch on which training diverged, for inspection; metadata values are stored as JSON."""
        plain = {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}
        self._save("bad_batch.safetensors", save(plain, {key: json.dumps(value) for key, value in metadata.items()}))
        return self.path / "bad_batch.safetensors"

    def load_student(self, name: str) -> dict[str, Tensor]:
        with self._student_file(name) as path:
            return load_file(path)

    def student_facts(self, name: str) -> dict[str, Any]:
        """What a student's file says of its images: ``class_names``, ``image_size``, ``mean``, ``std``, ``resize``."""
        with self._student_file(name) as path, safe_open(path, framework="pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}

    @contextmanager
    def _student_file(self, name: str) -> Iterator[Path]:
        """To be read in here. Raises UserError if it is missing or damaged."""
        path = self.path / "students" / f"{name}.safetensors"
        if not path.exists():
            raise UserError(f"Run folder '{self.path}' has no weights of student '{name}': the run is not finished.")
        try:
            yield path
        except Exception as error:  # safetensors has no one error class of its own
            raise UserError(f"'{path}' is damaged: {first_line(error)}") from error

    def check_student(self, name: str, sha256: str | None) -> None:
        """Raises UserError unless a student's file is the one that was saved."""
        path = self.path / "students" / f"{name}.safetensors"
        if sha256_of(path) != sha256:
            raise UserError(f"'{path}' was altered: its SHA-256 is not the one in summary.json.")

    def save_summary(self, summary: dict[str, Any]) -> None:
        self._save("summary.json", (json.dumps(summary, indent=2) + "\n").encode())
        with suppress(OSError):
            self._checkpoints.previous.unlink()  # nobody will go on from it

    def _check_free(self) -> None:
        """Raises UserError unless the folder is new or empty."""
        if self.finished:
            raise UserError(
                f"Run folder '{self.path}' already holds a finished run. Choose another run=..., or add --overwrite."
            )
        begun = self._checkpoints.any or (self.path / lock.NAME).exists()
        if begun and (self.path / "config.yaml").exists():
            raise UserError(
                f"Run folder '{self.path}' holds an unfinished run. "
                "Choose another run=..., add --overwrite, or go on with it: "
                f"codistill train --resume {shlex.quote(str(self.path))}"
            )
        if self.path.exists() and any(path.name not in _NOTHING for path in self.path.iterdir()):
            killed = (self.path / lock.NAME).exists()  # a run, while it began to replace another
            hint = ", or add --overwrite" if killed else ""
            raise UserError(f"Run folder '{self.path}' is not empty. Choose another run=...{hint}.")

    def _check_replaceable(self) -> None:
        """Raises UserError for a folder that holds anything but a run."""
        if not self.path.exists() or all(path.name in _NOTHING for path in self.path.iterdir()):
            return
        try:
            run_files.read_config(self.path)
            is_run = self.finished or self._checkpoints.any
        except UserError:
            is_run = False
        if not is_run:
            raise UserError(
                f"Run folder '{self.path}' is not empty and holds no run: it is not replaced. Choose another run=...."
            )

    def _save(self, name: str, data: bytes) -> None:
        with self._saving(name, len(data)):
            path = self.path / name
            if path.parent != self.path:
                path.parent.mkdir(exist_ok=True)
            atomic_io.write_file(path, data)

    @contextmanager
    def _saving(self, name: str, size: int) -> Iterator[None]:
        """Whatever the disk says of a file becomes a message for people."""
        try:
            yield
        except OSError as error:
            raise atomic_io.SaveError(atomic_io.explain(self.path, name, size, error)) from error

    def _not_writable(self, error: OSError) -> UserError:
        return UserError(f"Run folder '{self.path}' cannot be written: {error.strerror}.")


_NOTHING = (lock.NAME, ".config.yaml.tmp")  # what a run leaves that was killed before it began
