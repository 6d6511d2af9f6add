"""``codistill tasks``."""

from typing import Annotated

import typer

from codistill import catalogue
from codistill.commands.entries import print_choices, print_entry
from codistill.commands.shared import new_app

app = new_app()


@app.callback(invoke_without_command=True)
def tasks(context: typer.Context) -> None:
    """The auxiliary tasks that a student can be given. 'tasks show NAME' tells all."""
    if context.invoked_subcommand is None:
        print_choices(catalogue.summaries()[1])


@app.command()
def show(name: Annotated[str, typer.Argument(help="A task.", show_default=False)]) -> None:
    """Formula, paper, deviations, settings and cost of one task."""
    print_entry(catalogue.describe_task(name))
