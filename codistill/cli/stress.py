"""``codistill stress``."""

from pathlib import Path
from typing import Annotated

import typer

from codistill.cli.progress import train_with_progress
from codistill.cli.shared import ConfigArguments, console, new_app, print_table, recipe_and_keys
from codistill.config.recipe import merged, read_overrides, read_recipe
from codistill.errors import UserError
from codistill.experiments.stress_test import POISONS, SMALL, against_alone, against_healthy, harms, stress_entries
from codistill.experiments.sweep.gpus import read_gpus

app = new_app()


@app.command()
def stress(
    arguments: ConfigArguments = None,
    methods: Annotated[str, typer.Option(help="Methods to test.")] = "dml,ffl,collaborative",
    poisons: Annotated[
        str, typer.Option(help=f"Among {', '.join([*POISONS, SMALL])}; with :N for so many seeds.")
    ] = "labels80,lr10",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each, unless it says otherwise.")] = 3,
    poisoned: Annotated[str | None, typer.Option(help="The student that is harmed.", show_default="the last")] = None,
    smaller: Annotated[
        str | None, typer.Option(help="The model that the poison 'small' puts in its place.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the runs go.")] = Path("runs/stress"),
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side; on a CPU they share its cores.")] = 1,
    gpus: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="Train on these, one run on each.", show_default=False)
    ] = None,
) -> None:
    """The collapse test: one student is harmed on purpose; what do its peers lose, with each method?

    The harms: labels40 and labels80 (that share of its labels is random), lr10 (ten times the learning rate), reinit
    (new weights half-way), small (a smaller network). The tables show the first healthy student's test accuracy minus
    its accuracy alone with the same tasks, and minus that beside a healthy peer, seed by seed. Settings of a method
    hold for it: method=collaborative method.reliability=2. Can be stopped and started again.
    """
    own_gpus = read_gpus(gpus)
    recipe, keys = recipe_and_keys(arguments)
    overrides = read_overrides(keys)
    if "seed" in overrides:
        raise UserError("seed is what a collapse test varies: say how many seeds with --seeds.")
    given = merged(read_recipe(recipe) if recipe else {}, overrides)
    counts = dict(_with_seeds(word, seeds) for word in poisons.split(","))
    names = [method.strip() for method in methods.split(",")]
    entries = stress_entries(given, names, counts, poisoned=poisoned, smaller=smaller)
    students = list(entries[0].config.students)
    healthy = next(name for name in students if name != (poisoned or students[-1]))
    train_with_progress(entries, out, jobs=jobs, gpus=own_gpus)
    rows = harms([out / entry.name for entry in entries], healthy)
    shown = {
        f"Points of test accuracy of student '{healthy}', minus those of it alone with the same tasks:": against_alone,
        "The same, minus those beside a healthy peer, with the same method:": against_healthy,
    }
    for title, against in shown.items():
        console.print(title)
        print_table(*against(rows))


def _with_seeds(word: str, seeds: int) -> tuple[str, int]:
    """``lr10`` or ``lr10:1``."""
    name, colon, count = word.strip().partition(":")
    if colon and not (count.isdigit() and int(count)):
        raise UserError(f"--poisons {word}: after the colon comes a number of seeds.")
    return name, int(count) if colon else seeds
