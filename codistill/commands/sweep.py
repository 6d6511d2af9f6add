"""``codistill sweep``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from codistill import run_files
from codistill.commands.shared import console, errors, new_app, print_table
from codistill.engine.stopping import StopRequest
from codistill.errors import TrainingEnded, UserError
from codistill.recipe import read_overrides
from codistill.report.compare import compare
from codistill.report.tables import tables
from codistill.sweep.dry_run import STEPS, dry_run
from codistill.sweep.plan import read_sweep
from codistill.sweep.queue import Job, train_all

app = new_app()


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep file.", show_default=False)],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="For every run.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the runs go.", show_default="runs/NAME OF THE FILE")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side; on a CPU they share its cores.")] = 1,
    gpus: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="Train on these, one run on each.", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the runs and where each stands; train nothing.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Two steps of every row, to see that all fits.")] = False,
) -> None:
    """Train many runs: rows, grids and seeds of a file. Stop it and start it again at any time.

    Finished runs are skipped, interrupted ones go on after their last saved step, a failed one does not stop the
    others. The file:

    \b
    base: cifar100_resnet32.yaml       # a recipe, relative to this file; or its keys
    rows:                              # what each row changes; most valuable first
      independent: {method: independent, tasks: none}
      dml: {method: dml, tasks: none, method.temperature: 3}
    grid:                              # every combination, within each row
      optimizer.lr: \\[0.05, 0.1]
    seeds: 3                           # all rows with the first, then all with the second
    """
    entries = read_sweep(file, read_overrides(keys or []))
    if dry:
        rows = {entry.name.rpartition("-seed")[0]: entry.config for entry in reversed(entries)}
        for name, config in reversed(rows.items()):
            try:
                dry_run(config)
            except (UserError, TrainingEnded) as error:
                raise UserError(f"In sweep '{file}', row '{name}': {error}") from error
            console.print(f"{escape(name)}: {STEPS} steps are fine.")
        return
    out = out or Path("runs") / file.stem
    all_jobs = [Job(entry, out) for entry in entries]
    if listed:
        print_table(["run", "state", "epochs"], [[job.name, job.state, _epochs(job)] for job in all_jobs])
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Folder '{out}' cannot be written: {error.strerror}.") from error
    numbers = [number.strip() for number in gpus.split(",")] if gpus else []
    stop = StopRequest(lambda text: errors.print("Stopping: every run is saved first. Once more to leave at once."))
    with _Live(all_jobs) if console.is_terminal else _Lines(all_jobs) as view:
        train_all(all_jobs, side_by_side=len(numbers) or jobs, gpus=numbers, show=view.show, stop=stop)
    finished = [job.run for job in all_jobs if job.state == "finished"]
    if finished:
        for table in tables(compare(finished), details="none"):
            if table.title:
                console.print(escape(table.title), soft_wrap=True)
            print_table(table.header, table.cells)
    failed = [job for job in all_jobs if job.state == "failed"]
    for job in failed:
        errors.print(f"[bold red]Failed:[/bold red] {escape(f'{job.name}: {job.last_words} ({job.log})')}")
    if stop.number is not None:
        errors.print("Stopped. Go on with the same command.")
        raise typer.Exit(128 + stop.number)
    if failed:
        raise typer.Exit(1)


def _epochs(job: Job) -> str:
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
                words = f"{number}/{len(jobs)} {job.name} {job.state}  {_outcome(job)}"
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
        table = Table("training", "epoch", "loss", "images/s", title=f"{len(jobs)} runs: {title}")
        for job in jobs:
            if job.state == "training":
                line = job.progress or {}
                loss = line.get("losses", {}).get("total")
                shown = "" if loss is None else f"{loss:.3f}"
                table.add_row(escape(job.name), _epochs(job), shown, f"{line.get('images_per_second', 0):,.0f}")
        return table
