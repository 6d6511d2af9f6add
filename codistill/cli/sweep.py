"""``codistill sweep``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.progress import epochs_done, train_with_progress
from codistill.cli.shared import check_no_spaces, console, new_app, print_table, print_tables
from codistill.config.recipe import read_overrides
from codistill.errors import TrainingEnded, UserError
from codistill.errors.printable import printable
from codistill.evaluation.compare.rows import compare
from codistill.evaluation.compare.tables import narrow_tables
from codistill.experiments.sweep.dry_run import STEPS, dry_run
from codistill.experiments.sweep.gpus import read_gpus
from codistill.experiments.sweep.queue import Job
from codistill.experiments.sweep.sweep_file import read_sweep

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
    own_gpus = read_gpus(gpus)
    check_no_spaces([str(file), *(keys or [])])
    entries = read_sweep(file, read_overrides(keys or []))
    if dry:
        rows = {entry.name.rpartition("-seed")[0]: entry.config for entry in reversed(entries)}
        for name, config in reversed(rows.items()):
            try:
                dry_run(config)
            except (UserError, TrainingEnded) as error:
                raise UserError(f"In sweep '{file}', row '{name}': {error}") from error
            console.print(f"{escape(printable(name))}: {STEPS} steps are fine.")
        return
    out = out or Path("runs") / file.stem
    if listed:
        all_jobs = [Job(entry, out) for entry in entries]
        print_table(["run", "state", "epochs"], [[job.name, job.state, epochs_done(job)] for job in all_jobs])
        return
    print_tables(narrow_tables(compare(train_with_progress(entries, out, jobs=jobs, gpus=own_gpus))))
