"""``codistill tasks``."""

from typing import Annotated

import typer

from codistill.cli.entries import print_choices, print_entry
from codistill.cli.shared import new_app
from codistill.experiments import describe_registry

app = new_app()


@app.callback(invoke_without_command=True)
def tasks(context: typer.Context) -> None:
    """The auxiliary tasks that a student can be given. 'tasks show NAME' tells all."""
    if context.invoked_subcommand is None:
        print_choices(describe_registry.summaries()[1])


@app.command()
def show(name: Annotated[str, typer.Argument(help="A task.", show_default=False)]) -> None:
    """Formula, paper, deviations, settings and cost of one task."""
    print_entry(describe_registry.describe_task(name))
