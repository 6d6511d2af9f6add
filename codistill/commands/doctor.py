"""``codistill doctor``."""

from typing import Annotated

import typer
from rich.markup import escape

from codistill import doctor as checks
from codistill.commands.shared import console, errors, new_app

app = new_app()


@app.command()
def doctor(
    resume_check: Annotated[
        bool, typer.Option("--resume-check", help="Kill a tiny run and resume it: is it as if nothing had happened?")
    ] = False,
) -> None:
    """What codistill runs on here; and whether an interrupted run goes on exactly."""
    for name, value in checks.describe():
        console.print(f"{name:<13} {escape(value)}", soft_wrap=True)
    if resume_check:
        console.print("\nTraining a tiny run twice, once with a SIGKILL in the middle ...")
        compared, difference = checks.check_resume()
        console.print(f"Compared bit for bit, number by number: {compared}.", soft_wrap=True)
        if difference is not None:
            errors.print(f"[bold red]Different:[/bold red] {escape(difference)}", soft_wrap=True)
            raise typer.Exit(1)
        console.print("[bold green]OK[/bold green] The resumed run is the uninterrupted one.")
