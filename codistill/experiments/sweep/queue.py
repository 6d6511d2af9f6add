"""Train the runs of a sweep, each in a process of its own, one after the other or several side by side.

    OUT/NAME-seedN/          a run folder
    OUT/NAME-seedN.yaml      what it was told to do
    OUT/NAME-seedN.log       what it said

A sweep can be stopped and started again at any time: finished runs are skipped, interrupted ones go on after their
last saved step. A run that fails is kept with its log, and the others go on.
"""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from codistill.errors import UserError
from codistill.evaluation.compare.comparability import comparable
from codistill.experiments.sweep.sweep_file import Entry
from codistill.experiments.train_process import last_words, start_training, words_to_train
from codistill.models import as_it_begins, as_they_began
from codistill.storage import run_files
from codistill.storage.atomic_io import write_file
from codistill.training.auto import settled_as
from codistill.training.restore import read_run_config
from codistill.training.signals import StopRequest

State = Literal["waiting", "training", "finished", "failed", "stopped"]
LOOK_SECONDS = 0.5
# Exit codes of a run that was asked to end: it saved first, or had not begun to listen and nothing was there to save.
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


class Job:
    """One run of a sweep, and how far it is."""

    def __init__(self, entry: Entry, out: Path) -> None:
        self.name, self.config = entry.name, entry.config
        self.run = out / entry.name
        self.log = out / f"{entry.name}.log"
        self.recipe = out / f"{entry.name}.yaml"
        self.state: State = "waiting"
        self.gpu: str | None = None
        self._asked = False
        self._process: subprocess.Popen[bytes] | None = None
        if (self.run / "summary.json").exists():
            _check_same(self.run, entry)
            self.state = "finished"
        elif (self.run / "config.yaml").exists():
            _check_same(self.run, entry)

    def start(self, gpu: str | None, threads: int | None) -> None:
        """Begin, or go on after the last saved step, with one GPU alone and so many threads, where they are given."""
        write_file(self.recipe, self.config.to_yaml().encode())
        environment = dict(os.environ)
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        if threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        self._process = start_training(words_to_train(self.run, self.recipe), self.log, environment)
        self.state, self.gpu = "training", gpu

    def look(self) -> None:
        """See whether the process has ended, and how."""
        if self._process is None or self.state != "training" or (code := self._process.poll()) is None:
            return
        if code == 0 and (self.run / "summary.json").exists():
            self.state = "finished"
        else:
            self.state = "stopped" if code in _STOPPED else "failed"

    def stop(self) -> None:
        """Ask the process, once, to save and to end: asked twice it would leave at once."""
        if self._process is not None and not self._asked:
            self._asked = True
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None and self.state == "training":
            self._process.kill()
            self._process.wait()
            self.state = "stopped"

    @property
    def progress(self) -> dict[str, Any] | None:
        """The last line of the run's metrics, if it has one yet."""
        with suppress(OSError, ValueError, IndexError), (self.run / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 65_536))
            return dict(json.loads(file.read().split(b"\n")[-2]))
        return None

    @property
    def last_words(self) -> str:
        """The end of the log: why a run failed."""
        return last_words(self.log)


def train_all(
    jobs: Sequence[Job],
    *,
    side_by_side: int,
    gpus: Sequence[str],
    show: Callable[[Sequence[Job]], None],
    stop: StopRequest,
) -> None:
    """Train what is not finished, so many at a time; on ``gpus``, if any are named, each run sees a free one alone.

    ``show`` is told all jobs now and then. Ends early when ``stop`` is asked, with every run saved.
    """
    waiting = [job for job in jobs if job.state != "finished"]
    free: list[str | None] = [*gpus] or [None] * side_by_side
    threads = None if side_by_side == 1 or gpus else max(1, _cores() // side_by_side)
    running: list[Job] = []
    try:
        with stop:
            while waiting or running:
                while waiting and free and len(running) < side_by_side and stop.number is None:
                    job = waiting.pop(0)
                    job.start(free.pop(0), threads)
                    running.append(job)
                time.sleep(LOOK_SECONDS)
                if stop.number is not None:
                    waiting = []
                    for job in running:
                        job.stop()
                for job in running:
                    job.look()
                free += [job.gpu for job in running if job.state != "training"]
                running = [job for job in running if job.state == "training"]
                show(jobs)
    except KeyboardInterrupt:  # asked twice
        for job in running:
            job.kill()


def _cores() -> int:
    """Those that this process may use, where the system tells; macOS does not."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_GONE = object()  # what a key has that is no longer there
_FILLED_IN = ("augment.padding", "augment.flip", "tasks.superclasses")  # by the data, where they are null


def _check_same(run: Path, entry: Entry) -> None:
    """Raises UserError if a run was told otherwise than now; what is free, or filled in by its data, does not count."""
    then = run_files.read_config(run)
    now = settled_as(entry.config, read_run_config(run)).model_dump(mode="json")
    begin = {name: as_it_begins(model) for name, model in now["students"].items()}  # not alike if its file changed
    now["students"] = as_they_began(begin, then["students"])
    differing = _differing({**comparable(now), "seed": now["seed"]}, {**comparable(then), "seed": then["seed"]})
    if differing == ["data.name"]:
        moved = shlex.join(["codistill", "relocate", str(run), "--data", entry.config.data.name])
        raise UserError(
            f"The data of '{run}' is called '{then['data']['name']}', that of the sweep '{entry.config.data.name}'. If "
            f"they are the same images, say so: {moved}. Else choose another --out."
        )
    if differing:
        raise UserError(
            f"'{run}' was trained otherwise than the sweep says now; it differs in {', '.join(differing[:3])}. Remove "
            "that folder to train it again, or choose another --out."
        )


def _differing(now: Any, then: Any, key: str = "") -> list[str]:
    if now is None and key in _FILLED_IN:
        return []
    if isinstance(now, dict) and isinstance(then, dict):
        names = [*now, *(name for name in then if name not in now)]  # a weight or factor that is gone does count
        inner = [_differing(now.get(name, _GONE), then.get(name), f"{key}.{name}" if key else name) for name in names]
        return [name for names in inner for name in names]
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [name for one, other in zip(now, then, strict=True) for name in _differing(one, other, key)]
    return [] if now == then else [key]
