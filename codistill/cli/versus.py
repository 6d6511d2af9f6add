"""``codistill versus``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.shared import ConfigArguments, console, errors, new_app, new_run, recipe_and_keys
from codistill.config.recipe import load_config
from codistill.errors import UserError
from codistill.experiments.versus import ALONE, TOGETHER, Verdict
from codistill.experiments.versus import versus as compare
from codistill.training.signals import StopRequest

app = new_app()


@app.command()
def versus(
    arguments: ConfigArguments = None,
    minutes: Annotated[float, typer.Option(help="For all of it: reading, training both ways, testing.")] = 30.0,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind; they share the minutes.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the runs go; an interrupted one goes on.", show_default="runs/TIME_versus"),
    ] = None,
) -> None:
    """Do peers pay on your images? One network alone and with peers, at equal time, and a verdict.

    Each is trained for half of the minutes, in turns.

    codistill versus data=FOLDER data.image_size=64 students=resnet20 --minutes 30

    Keys are those of train, but for epochs: as many as fit are trained. Alone is the first student, trained plainly.
    The verdict is about test images; of several students, validation images choose the one that counts. With one seed,
    its interval says what other test images could change, and not what another seed could.
    """
    if any(argument.startswith(("epochs=", "run=")) for argument in arguments or []):
        raise UserError("versus trains as many epochs as fit into --minutes, in --out: leave epochs= and run= out.")
    out = out or new_run("versus")
    with StopRequest(lambda text: errors.print("Stopping: the running training is saved first.")) as stop:
        found = compare(
            load_config(*recipe_and_keys(arguments)),
            out,
            minutes=minutes,
            seeds=seeds,
            note=lambda text: console.print(escape(text), soft_wrap=True),
            stop=stop,
        )
    if found is None:
        errors.print(f"Stopped. Go on with the same command and --out {escape(shlex.quote(str(out)))}.", soft_wrap=True)
        raise typer.Exit(128 + (stop.number or 2))
    console.print(f"\n[bold]{escape(str(found))}[/bold]", soft_wrap=True)
    console.print(f"Keep: {escape(str(found.file))}", soft_wrap=True)
    for line in _next(found, minutes, out):
        console.print(f"  {escape(line)}", soft_wrap=True)


def _next(found: Verdict, minutes: float, out: Path) -> list[str]:
    """What to do now, a line each."""
    run = shlex.quote(str(found.run))
    lines = [
        f"codistill predict {run} --student {shlex.quote(found.student)} IMAGE...",
        f"codistill report {shlex.quote(str(out))}",
    ]
    if found.winner != TOGETHER:
        lines.append(f"Peers need time: try --minutes {2 * minutes:g}, or see where they pay: docs/results.md.")
    if found.winner == ALONE:
        lines.append("With this little time, train one network alone, students=[MODEL].")
    return lines
