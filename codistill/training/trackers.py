"""Experiment trackers: what metrics.jsonl says is told to TensorBoard, W&B, MLflow or Trackio as well.

Only those that the configuration names, through Accelerate's trackers, and in the main process alone. metrics.jsonl
stays the truth: a tracker that fails is given up with a warning, and training goes on. Which run of a tracker belongs
to a run folder stands in its trackers.json, so that a resumed run goes on in the same place.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from codistill.errors import UserError, first_line
from codistill.storage import atomic_io
from codistill.storage.run_files import told_apart

# W&B would also send what is printed, the machine's load, and what it finds out about machine and source.
_WANDB_FIGURES_ONLY = {
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class Trackers:
    """Tells each record of a run to the trackers of these names. As a context it closes those that were started."""

    def __init__(self, names: Sequence[str], project: str, run: Path, warn: Callable[[str], None]) -> None:
        self._names = list(dict.fromkeys(names))
        self._project, self._run, self._warn = project, run, warn
        self._started: dict[str, Any] = {}

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell_all(lambda tracker: tracker.finish())
        self._started.clear()

    def check(self) -> None:
        """Before anything is built. Raises UserError if a tracker's package or login is missing; never asks for it."""
        for name in self._names:
            if missing := [package for package in ("accelerate", name) if not _installed(package)]:
                raise UserError(
                    f"The tracker '{name}' needs {' and '.join(missing)}, not installed here: "
                    f"pip install codistill[{name}], or leave it out of trackers."
                )
        if "wandb" in self._names:
            _check_wandb_login()

    def start(self, configuration: Mapping[str, Any], steps_done: int) -> None:
        """Begin a run with each tracker, or go on with the one that it has, after ``steps_done`` steps.

        Raises UserError if a run cannot be begun. One that cannot be gone on with is given up with a warning: what was
        trained so far is worth more.
        """
        if not self._names:
            return
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # Accelerate's trackers ask it which process this is
        ids = self._read_ids()
        for name in self._names:
            try:
                tracker = LOGGER_TYPE_TO_CLASS[name](**_arguments(name, self._project, self._run, ids, steps_done))
                tracker.start()
                self._started[name] = tracker
                if name not in ids or name == "wandb":  # W&B offline loses it with a process that is killed
                    tracker.store_init_configuration(dict(flat(configuration)))
                if name not in ids:
                    ids[name] = _id_of(name, tracker)
                    atomic_io.write_file(self._run / "trackers.json", json.dumps(ids).encode())
            except Exception as error:  # each tracker raises what it likes
                if name not in ids:
                    raise UserError(f"The tracker '{name}' could not be started: {_reason(error)}") from error
                self._give_up(name, error)

    def log(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl."""
        told = figures(record)
        self._tell_all(lambda tracker: tracker.log(told, step=record["step"]))

    def log_summary(self, summary: Mapping[str, Any], step: int) -> None:
        """The test accuracies, at the last step."""
        told = accuracies("test", summary["test_accuracy"])
        self._tell_all(lambda tracker: tracker.log(told, step=step))

    def _tell_all(self, tell: Callable[[Any], None]) -> None:
        for name, tracker in list(self._started.items()):
            try:
                tell(tracker)
            except Exception as error:
                self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        """Not tried again: each try may take minutes to fail."""
        self._started.pop(name, None)
        self._warn(
            f"The tracker '{name}' failed and is given up: {_reason(error)} Training goes on; metrics.jsonl has it all."
        )

    def _read_ids(self) -> dict[str, str | None]:
        """The run of each tracker that was begun for this run folder."""
        path = self._run / "trackers.json"
        try:
            ids = json.loads(path.read_bytes()) if path.exists() else {}
        except ValueError as error:
            ids = error
        if not isinstance(ids, dict):
            raise UserError(f"'{path}' is damaged. Remove it, and the trackers begin new runs.")
        return ids


def figures(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by name: ``losses/a/ce``, ``lr``, ``validation/a``.

    Means over an epoch are ``epoch_losses/a/ce``: in one curve with those over an interval they would draw a zigzag.
    """
    losses = "epoch_losses" if record["kind"] == "epoch" else "losses"
    told = {f"{losses}/{name}": mean for name, mean in record["losses"].items()}
    told |= {name: record[name] for name in ("lr", "images_per_second")}
    return told | accuracies("validation", record.get("validation_accuracy"))


def accuracies(split: str, accuracy: Mapping[str, Any] | None) -> dict[str, float]:
    """Accuracies in percent, by name: ``test/a`` for student a, ``test/ensemble`` and ``test/teacher`` if there are."""
    if accuracy is None:
        return {}
    students = {told_apart(name): percent for name, percent in accuracy["students"].items()}
    named = {"teacher": accuracy["teacher"], "ensemble": accuracy["ensemble"], **students}
    return {f"{split}/{name}": percent for name, percent in named.items() if percent is not None}


def flat(value: Any, key: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """``optimizer.lr``, ``tasks.0.0.name``: every value under a key of its own, as numbers and words only.

    TensorBoard takes nothing else. ``weights`` stay in one piece, for MLflow refuses the patterns that are their keys.
    """
    if isinstance(value, Mapping) and key != "weights":
        inner = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        inner = list(enumerate(value))
    else:
        yield key, value if isinstance(value, bool | int | float | str) else json.dumps(value)
        return
    for name, item in inner:
        yield from flat(item, f"{key}.{name}" if key else str(name))


def _arguments(name: str, project: str, run: Path, ids: Mapping[str, str | None], steps_done: int) -> dict[str, Any]:
    """What Accelerate's tracker of this name is made with."""
    going_on, run_name = name in ids, run.resolve().name
    if name == "tensorboard":  # its "run name" is a folder's
        purge = {"purge_step": steps_done + 1} if going_on else {}
        return {"run_name": "tensorboard", "logging_dir": str(run), **purge}
    if name == "wandb":
        same = {"id": ids[name], "resume": "allow"} if going_on else {}
        return {"run_name": project, "name": run_name, "settings": _WANDB_FIGURES_ONLY, **same}
    if name == "mlflow":
        return {"experiment_name": project, "run_name": run_name, "run_id": ids.get(name)}
    figures_only = {"auto_log_cpu": False, "auto_log_gpu": False, "embed": False}
    return {"run_name": project, "name": run_name, "resume": "allow" if going_on else "never", **figures_only}


def _id_of(name: str, tracker: Any) -> str | None:
    """By what a run is found again, where the run folder or its name are not enough."""
    if name == "mlflow":
        return str(tracker.tracker.info.run_id)
    return str(tracker.tracker.id) if name == "wandb" else None


def _installed(package: str) -> bool:
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a folder 'wandb', as W&B leaves one, is no package


def _check_wandb_login() -> None:
    import wandb

    try:
        offline = wandb.setup().settings.mode in ("offline", "dryrun", "disabled")
        ready = offline or wandb.login(prompt=False, verify=False)
    except Exception as error:
        raise UserError(f"The tracker 'wandb' cannot be used: {_reason(error)}") from error
    if not ready:
        raise UserError(
            "The tracker 'wandb' has no login here. Run 'wandb login' or set WANDB_API_KEY; "
            "or set WANDB_MODE=offline, and later send what it wrote with 'wandb sync'."
        )


def _reason(error: Exception) -> str:
    """The first line of what it says, as a sentence."""
    reason = first_line(error)
    return reason if reason.endswith(".") else f"{reason}."
