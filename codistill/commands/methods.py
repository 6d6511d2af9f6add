"""``codistill methods``."""

from typing import Annotated

import typer

from codistill import catalogue
from codistill.commands.entries import print_choices, print_entry
from codistill.commands.shared import new_app

app = new_app()


@app.callback(invoke_without_command=True)
def methods(context: typer.Context) -> None:
    """The methods: how students learn from each other. 'methods show NAME' tells all."""
    if context.invoked_subcommand is None:
        print_choices(catalogue.summaries()[0])


@app.command()
def show(name: Annotated[str, typer.Argument(help="A method.", show_default=False)]) -> None:
    """Formula, paper, deviations, settings and cost of one method."""
    print_entry(catalogue.describe_method(name))
