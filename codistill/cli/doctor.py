"""``codistill doctor``."""

from itertools import groupby
from operator import attrgetter
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.shared import console, errors, new_app
from codistill.errors.libraries import importing
from codistill.experiments import environment

app = new_app()
mended_by = attrgetter("mend")


@app.command()
def doctor(
    resume_check: Annotated[
        bool, typer.Option("--resume-check", help="Kill a tiny run and resume it: is it as if nothing had happened?")
    ] = False,
) -> None:
    """What codistill runs on here; and whether an interrupted run goes on exactly.

    Every library is imported. One that cannot be is told with how to mend it; the exit code is 1 if it is needed.
    """
    found = environment.describe()
    for name, value in found.rows:
        console.print(f"{name:<13} {escape(value)}", soft_wrap=True)
    for mend, faults in groupby(sorted(found.faults, key=mended_by), mended_by):
        packages = ", ".join(one.package for one in faults)
        errors.print(
            f"[bold red]Missing or faulty:[/bold red] {escape(f'{packages}. To mend it: {mend}.')}", soft_wrap=True
        )
    if resume_check:
        _check_resume()
    if not found.complete:
        raise typer.Exit(1)


def _check_resume() -> None:
    with importing("torch", "--resume-check"):
        from codistill.experiments import doctor as checks
    console.print("\nTraining a tiny run twice, once with a SIGKILL in the middle ...")
    compared, difference = checks.check_resume()
    console.print(f"Compared bit for bit, number by number: {compared}.", soft_wrap=True)
    if difference is not None:
        errors.print(f"[bold red]Different:[/bold red] {escape(difference)}", soft_wrap=True)
        raise typer.Exit(1)
    console.print("[bold green]OK[/bold green] The resumed run is the uninterrupted one.")
