"""Training the runs of a sweep, with one view of them all."""

from collections.abc import Sequence
from pathlib import Path

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from codistill.cli.shared import console, errors
from codistill.errors import UserError
from codistill.errors.printable import printable, printable_list
from codistill.experiments.sweep.queue import Job, train_all
from codistill.experiments.sweep.sweep_file import Entry
from codistill.storage import run_files
from codistill.training.signals import StopRequest


def train_with_progress(entries: Sequence[Entry], out: Path, *, jobs: int, gpus: Sequence[str]) -> list[Path]:
    """Train what is not finished; returns the finished runs. Ends the program if it was stopped or if runs failed."""
    all_jobs = [Job(entry, out) for entry in entries]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Folder '{out}' cannot be written: {error.strerror}.") from error
    stop = StopRequest(lambda text: errors.print("Stopping: every run is saved first. Once more to leave at once."))
    with _Live(all_jobs) if console.is_terminal else _Lines(all_jobs) as view:
        train_all(all_jobs, side_by_side=len(gpus) or jobs, gpus=gpus, show=view.show, stop=stop)
    failed = [job for job in all_jobs if job.state == "failed"]
    for job in failed:
        errors.print(f"[bold red]Failed:[/bold red] {escape(printable(f'{job.name}: {job.last_words} ({job.log})'))}")
    if stop.number is not None:
        errors.print("Stopped. Go on with the same command.")
        raise typer.Exit(128 + stop.number)
    if stopped := [job.name for job in all_jobs if job.state == "stopped"]:
        errors.print(f"Stopped from outside: {escape(printable_list(stopped))}. The same command goes on with them.")
        raise typer.Exit(1)
    if failed:
        errors.print(f"{len(failed)} of {len(all_jobs)} runs failed. The same command tries them again.")
        raise typer.Exit(1)
    return [job.run for job in all_jobs]


def epochs_done(job: Job) -> str:
    """``12/100``."""
    epochs = job.config.epochs
    done = epochs if job.state == "finished" else int((job.progress or {}).get("epoch", 0))
    return f"{done}/{epochs}"


def _outcome(job: Job) -> str:
    """What came of a run, in a few words."""
    if job.state == "finished":
        accuracies = run_files.read_summary(job.run)["test_accuracy"]["students"]
        return "  ".join(f"{name} {percent:.2f} %" for name, percent in accuracies.items())
    return job.last_words if job.state == "failed" else ""


class _Lines:
    """A line when a run begins or ends."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._said = {job.name: job.state for job in jobs}

    def __enter__(self) -> "_Lines":
        done = sum(state == "finished" for state in self._said.values())
        console.print(f"{len(self._said)} runs, {done} finished before.")
        return self

    def __exit__(self, *ending: object) -> None: ...

    def show(self, jobs: Sequence[Job]) -> None:
        for number, job in enumerate(jobs, 1):
            if job.state != self._said[job.name]:
                self._said[job.name] = job.state
                words = f"{number}/{len(jobs)} {printable(job.name)} {job.state}  {_outcome(job)}"
                console.print(escape(words.rstrip()), soft_wrap=True)


class _Live:
    """What is running, and how much is done, drawn in place."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._live = Live(self._table(jobs), console=console, refresh_per_second=2)

    def __enter__(self) -> "_Live":
        self._live.start()
        return self

    def __exit__(self, *ending: object) -> None:
        self._live.stop()

    def show(self, jobs: Sequence[Job]) -> None:
        self._live.update(self._table(jobs))

    @staticmethod
    def _table(jobs: Sequence[Job]) -> Table:
        counts = {state: sum(job.state == state for job in jobs) for state in ("finished", "waiting", "failed")}
        title = ", ".join(f"{count} {state}" for state, count in counts.items())
        table = Table("training", "epoch", "objective", "cross-entropy", "images/s", title=f"{len(jobs)} runs: {title}")
        for job in jobs:
            if job.state == "training":
                line = job.progress or {}
                losses = line.get("losses", {})
                shown = f"{losses['total']:.3f}" if losses else ""
                marks = "  ".join(f"{name} {losses[f'{name}/ce']:.3f}" for name in job.config.students if losses)
                speed = f"{line.get('images_per_second', 0):,.0f}"
                table.add_row(escape(printable(job.name)), epochs_done(job), shown, escape(marks), speed)
        return table
