"""``codistill train``."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codistill.cli.accuracy import print_accuracy
from codistill.cli.shared import ConfigArguments, at_home, console, errors, new_app, new_run, recipe_and_keys
from codistill.config.recipe import load_config, read_overrides
from codistill.config.schema import describe_fields
from codistill.errors import UserError
from codistill.errors.printable import printable
from codistill.training import trainer
from codistill.training.display import choose_display
from codistill.training.evaluate import Accuracy
from codistill.training.resume import config_to_go_on
from codistill.training.signals import Stopped

app = new_app()


def _keys_help() -> str:
    fields = [("run", "runs/TIME_...", "the run's folder; must be new or empty"), *describe_fields()]
    rows = [f"{key:<24} {default:<18} {description}".rstrip() for key, default, description in fields]
    return "\n\n[bold]Keys[/bold] (name, default, meaning)\n\n\b\n" + escape("\n".join(rows))


def _train_help() -> str:
    return (
        "Train a cohort. A recipe is a YAML file; key=value overrides it, with dots for nesting.\n\n\b\n"
        + escape(
            "codistill train\n"
            "codistill train recipes/cifar100_resnet32.yaml optimizer.lr=0.05 seed=3\n"
            "codistill train data=FOLDER data.image_size=64 'students=[resnet20,resnet20]' epochs=200 run=runs/a\n"
            "codistill train 'students={small: resnet8, large: resnet20}' 'tasks=[[rotation,supcon],none]' method=dml\n"
            "codistill train data=FOLDER --minutes 240\n"
            "codistill train --resume runs/a\n"
            "codistill train --resume runs/a epochs=40"
        )
        + "\n\nA task or the method takes settings as a mapping: method={name: dml, temperature: 3}; for the method "
        + "also method.temperature=3. In most shells a value with spaces, braces or brackets needs quotes."
        + " A number given for a weight replaces the method's ramp."
        + _keys_help()
        + "\n\nauto is settled by how long training is, and a line at the start says how."
        + "\n\nSee also: codistill methods, tasks, models."
    )


@app.command(help=_train_help())
def train(
    arguments: ConfigArguments = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run folder, after its last saved step. epochs=N changes how long training "
            "is, device=NAME where it takes place.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="From now on until all is done, testing included: on the way the number of epochs becomes what fits, "
            "the warm-up and one at least, and the schedules follow.",
            show_default=False,
        ),
    ] = None,
) -> None:
    recipe, given = recipe_and_keys(arguments)
    if minutes is not None and any(argument.startswith("epochs=") for argument in given):
        raise UserError("--minutes chooses the epochs: give it or epochs=N, not both.")
    if resume is not None:
        if recipe is not None or overwrite:
            raise UserError("--resume goes on with the run's own configuration: give no recipe, and no --overwrite.")
        config, run = config_to_go_on(resume, read_overrides(given)), resume
    else:
        folders = [argument.removeprefix("run=") for argument in given if argument.startswith("run=")]
        if "" in folders:
            raise UserError("run= should name a folder.")
        config = load_config(recipe, [argument for argument in given if not argument.startswith("run=")])
        run = at_home(folders[-1]) if folders else new_run(f"{config.method.name}-seed{config.seed}")

    try:
        with choose_display(console) as display:
            resumed = resume is not None
            summary = trainer.train(config, run, display, overwrite=overwrite, resume=resumed, minutes=minutes)
    except Stopped as stopped:
        errors.print(escape(f"{stopped} All is saved. {_go_on(run)}"), soft_wrap=True)
        raise typer.Exit(128 + stopped.number) from None
    except KeyboardInterrupt:
        kept = (run / "checkpoint.pt").exists()
        hint = _go_on(run) if kept else "Nothing was saved yet."
        errors.print(f"Interrupted. {escape(hint)}", soft_wrap=True)
        raise typer.Exit(130) from None
    print_accuracy(Accuracy(**summary["test_accuracy"]))
    _print_parameters(summary["parameters"])
    folder = escape(printable(str(run)))
    console.print(f"{summary['images_per_second']:,.0f} images/s, {summary['seconds']:.0f} s. Run folder: {folder}")


def _go_on(run: Path) -> str:
    return f"Go on with: {shlex.join(['codistill', 'train', '--resume', str(run)])}"


def _print_parameters(parameters: Mapping[str, Any]) -> None:
    students = sum(parameters["students"].values())
    each = ", ".join(f"{name} {count:,}" for name, count in parameters["students"].items())
    share = parameters["training_only"] / students
    console.print(f"Parameters: {escape(each)}; for training only {parameters['training_only']:,} ({share:.2f}x)")
