"""The command line."""

# First of all, for it is read when torch is loaded: idle threads of one step must not keep a core busy that others
# need. On a machine with neighbours that is most of the time (docs/performance.md).
import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from codistill import __version__
from codistill.config import describe_fields
from codistill.engine.durable import SaveError
from codistill.engine.evaluate import Accuracy
from codistill.engine.memory import OutOfMemory
from codistill.engine.meter import DivergedError
from codistill.engine.processes import ProcessLost, is_main, leave
from codistill.engine.stopping import Stopped
from codistill.errors import UserError
from codistill.recipe import load_config

if TYPE_CHECKING:
    from codistill.catalogue import Entry

app = typer.Typer(
    name="codistill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train several small networks together so that each ends better than alone, and keep one.",
    epilog="Start with [bold]codistill train[/bold]: two networks, handwritten digits, a minute or two.",
)
# Of several processes one speaks: what all find wrong need not be read from each.
console = Console(highlight=False, quiet=not is_main())
errors = Console(stderr=True, highlight=False, quiet=not is_main())


class Against(StrEnum):
    """What ``bench`` compares with."""

    naive = "naive"


RunArgument = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
ConfigArguments = Annotated[list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", show_default=False)]


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
            "codistill train data=FOLDER students=[resnet20,resnet20] tasks=[rotation,supcon] epochs=200 run=runs/a\n"
            "codistill train 'students={small: resnet8, large: resnet20}' tasks=[[rotation,supcon],none] method=dml\n"
            "codistill train --resume runs/a"
        )
        + "\n\nA task or the method takes settings as a mapping: method={name: dml, temperature: 3}; for the method "
        + "also method.temperature=3. In most shells a value with spaces or braces needs quotes."
        + " A number given for a weight replaces the method's ramp."
        + _keys_help()
        + "\n\nThe default tasks go with every method; the papers of the others than collaborative have tasks=none."
        + "\n\nSee also: codistill methods, tasks, models."
    )


@app.command("train", help=_train_help())
def train_command(
    arguments: ConfigArguments = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run folder, after its last saved step.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False,
) -> None:
    from codistill import runs
    from codistill.display import choose_display

    recipe, given = _recipe_and_keys(arguments)
    if resume is not None:
        if arguments or overwrite:
            raise UserError("--resume goes on with the run's own configuration: give no recipe, keys or --overwrite.")
        if (resume / "summary.json").exists():
            raise UserError(f"Run '{resume}' is finished: there is nothing to resume.")
        config, run = runs.read_run_config(resume), resume
    else:
        folders = [argument.removeprefix("run=") for argument in given if argument.startswith("run=")]
        if "" in folders:
            raise UserError("run= should name a folder.")
        config = load_config(recipe, [argument for argument in given if not argument.startswith("run=")])
        run = Path(folders[-1]) if folders else _new_run(f"{config.method.name}-seed{config.seed}")

    try:
        with choose_display(console) as display:
            summary = runs.train(config, run, display, overwrite=overwrite, resume=resume is not None)
    except Stopped as stopped:
        errors.print(escape(f"{stopped} All is saved. Go on with: codistill train --resume {run}"), soft_wrap=True)
        raise typer.Exit(128 + stopped.number) from None
    except KeyboardInterrupt:
        kept = (run / "checkpoint.pt").exists()
        hint = f"Go on with: codistill train --resume {run}" if kept else "Nothing was saved yet."
        errors.print(f"Interrupted. {escape(hint)}", soft_wrap=True)
        raise typer.Exit(130) from None
    _print_accuracy(Accuracy(**summary["test_accuracy"]))
    _print_parameters(summary["parameters"])
    console.print(f"{summary['images_per_second']:,.0f} images/s, {summary['seconds']:.0f} s. Run folder: {run}")


def _recipe_and_keys(arguments: list[str] | None) -> tuple[Path | None, list[str]]:
    """``[RECIPE] [KEY=VALUE]...``: only a recipe, and only in the first place, is without ``=``."""
    if arguments and "=" not in arguments[0]:
        return Path(arguments[0]), arguments[1:]
    return None, arguments or []


def _new_run(name: str) -> Path:
    """A folder in runs/ that is not there yet, named by time."""
    stem = f"{datetime.now():%Y-%m-%d_%H%M%S_%f}"[:-3]
    return Path("runs") / f"{stem}_{name}"


@app.command("evaluate")
def evaluate_command(
    run: RunArgument, device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; any will do.")] = "auto"
) -> None:
    """Measure the test accuracy of a finished run again, from its saved weights."""
    from codistill.runs import evaluate_run

    accuracy, summary = evaluate_run(run, device)
    _print_accuracy(accuracy)
    if accuracy._asdict() == summary["test_accuracy"]:
        console.print("Equal to the run's summary.")
    else:
        console.print(f"The run's summary says otherwise: {summary['test_accuracy']}")


@app.command("compare")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Test accuracy of runs side by side; mean and standard deviation where they differ only by seed."""
    from codistill.report import compare

    comparison = compare.compare(runs)
    if markdown:
        sys.stdout.write(compare.markdown(comparison))
    else:
        _print_table(*compare.table(comparison))
    if comparison.differing_terms:
        errors.print(f"These rows do not compete, for they differ in: {', '.join(comparison.differing_terms)}.")


@app.command("bench")
def bench_command(
    arguments: ConfigArguments = None,
    against: Annotated[
        Against | None, typer.Option(help="Time this loop too, round by round in turn.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds; medians are taken over them.")] = 7,
    steps: Annotated[int, typer.Option(min=1, help="Training steps in a round.")] = 10,
    load: Annotated[int, typer.Option(min=0, help="Processes that keep cores busy beside, as neighbours do.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, with the configuration.")] = False,
) -> None:
    """Images per second, time of each part of a step, and memory, of any configuration on this machine.

    'naive' is the loop that one writes first, doing the same work with the same networks: NCHW memory, fp32, eager,
    one student after the other, PIL augmentation in a DataLoader. data=synthetic needs no images.
    """
    from codistill.bench.bench import bench

    config = load_config(*_recipe_and_keys(arguments))
    note = (lambda text: None) if as_json else (lambda text: errors.print(text, style="dim"))
    result = bench(config, against_naive=against is not None, rounds=rounds, steps=steps, load=load, note=note)
    if as_json:
        sys.stdout.write(json.dumps({**result, "config": config.model_dump(mode="json")}, indent=2) + "\n")
    else:
        _print_bench(result)


@app.command("doctor")
def doctor_command(
    resume_check: Annotated[
        bool, typer.Option("--resume-check", help="Kill a tiny run and resume it: is it as if nothing had happened?")
    ] = False,
) -> None:
    """What codistill runs on here: versions, devices, folders; and whether an interrupted run goes on exactly."""
    from codistill import doctor

    for name, value in doctor.describe():
        console.print(f"{name:<13} {escape(value)}", soft_wrap=True)
    if resume_check:
        console.print("\nTraining a tiny run twice, once with a SIGKILL in the middle ...")
        compared, difference = doctor.check_resume()
        console.print(f"Compared bit for bit, number by number: {compared}.", soft_wrap=True)
        if difference is not None:
            errors.print(f"[bold red]Different:[/bold red] {escape(difference)}", soft_wrap=True)
            raise typer.Exit(1)
        console.print("[bold green]OK[/bold green] The resumed run is the uninterrupted one.")


methods_app = typer.Typer(help="The methods: how students learn from each other. 'methods show NAME' tells all.")
tasks_app = typer.Typer(help="The auxiliary tasks that a student can be given. 'tasks show NAME' tells all.")
app.add_typer(methods_app, name="methods")
app.add_typer(tasks_app, name="tasks")


@methods_app.callback(invoke_without_command=True)
def methods_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from codistill import catalogue

        _print_choices(catalogue.summaries()[0])


@methods_app.command("show")
def show_method_command(name: Annotated[str, typer.Argument(help="A method.", show_default=False)]) -> None:
    """Formula, paper, deviations, settings and cost of one method."""
    from codistill import catalogue

    _print_entry(catalogue.describe_method(name))


@tasks_app.callback(invoke_without_command=True)
def tasks_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from codistill import catalogue

        _print_choices(catalogue.summaries()[1])


@tasks_app.command("show")
def show_task_command(name: Annotated[str, typer.Argument(help="A task.", show_default=False)]) -> None:
    """Formula, paper, deviations, settings and cost of one task."""
    from codistill import catalogue

    _print_entry(catalogue.describe_task(name))


@app.command("models")
def models_command() -> None:
    """The networks that can be students, with their parameters at 100 classes."""
    from codistill.models import MODELS
    from codistill.student import Student

    for name, make in MODELS.items():
        count = sum(parameter.numel() for parameter in Student(make(), 100).parameters())
        console.print(f"[bold]{name:<10}[/bold] {count:>10,} parameters. CIFAR ResNet, basic blocks (arXiv:1512.03385)")


@app.command("cache")
def cache_command(
    clear: Annotated[bool, typer.Option("--clear", help="Remove the entries. Runs that use them go on.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="Only what was not used for that long.", show_default=False),
    ] = None,
) -> None:
    """The decoded images that are kept on disk, so that a run on the same data starts at once."""
    from codistill.data import cache_entry

    folder, unused_for = cache_entry.cache_folder(), None if older_than is None else older_than * 86_400
    if clear:
        removed, size, busy = cache_entry.clear(folder, unused_for)
        kept = f" Kept, for a process is making or opening them: {busy}." if busy else ""
        console.print(f"Entries removed: {removed} ({size / 1e6:,.1f} MB).{kept}")
        return
    entries, table, total = cache_entry.entries(folder, unused_for), Table(), 0
    for column in ("data", "split", "images", "MB", "last used"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        size, last_use = entry.size_and_last_use()
        shape, contents = entry.read() or (None, None)
        what = [escape(contents.data), contents.split] if contents else ["unfinished or damaged", ""]
        images = "{0:,} of {2}x{1}".format(*shape) if shape else ""
        table.add_row(*what, images, f"{size / 1e6:,.1f}", f"{datetime.fromtimestamp(last_use):%Y-%m-%d %H:%M}")
        total += size
    if entries:
        console.print(table)
    console.print(f"Entries: {len(entries)} ({total / 1e6:,.1f} MB in {escape(str(folder))})", soft_wrap=True)


def _version(value: bool) -> None:
    if value:
        console.print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _print_accuracy(accuracy: Accuracy) -> None:
    table = Table("", "test accuracy")
    for name, percent in accuracy.students.items():
        table.add_row(f"student {escape(name)}", f"{percent:.2f} %")
    if accuracy.teacher is not None:
        table.add_row("teacher", f"{accuracy.teacher:.2f} %")
    table.add_row("ensemble of the students", f"{accuracy.ensemble:.2f} %")
    console.print(table)


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    """A row for each group of runs where that fits the terminal, else a column for each."""
    lines = [header, *rows]
    widths = [max(map(len, column)) + 3 for column in zip(*lines, strict=True)]
    if sum(widths) >= console.width:
        lines = [list(column) for column in zip(*lines, strict=True)]
    table = Table()
    for name in lines[0]:
        table.add_column(escape(name), overflow="fold")
    for line in lines[1:]:
        table.add_row(*map(escape, line))
    console.print(table)


def _print_parameters(parameters: Mapping[str, Any]) -> None:
    students = sum(parameters["students"].values())
    each = ", ".join(f"{name} {count:,}" for name, count in parameters["students"].items())
    share = parameters["training_only"] / students
    console.print(f"Parameters: {escape(each)}; for training only {parameters['training_only']:,} ({share:.2f}x)")


def _print_bench(result: Mapping[str, Any]) -> None:
    loops = {"codistill": result, **({"plain loop": result["naive"]} if "naive" in result else {})}
    table = Table("", *loops)
    table.add_row("images/s", *(f"{loop['images_per_second']:,.0f}" for loop in loops.values()))
    ranges = [" to ".join(f"{speed:,.0f}" for speed in loop["images_per_second_range"]) for loop in loops.values()]
    table.add_row("  slowest and fastest round", *ranges)
    table.add_row("images/s x students", *(f"{loop['student_images_per_second']:,.0f}" for loop in loops.values()))
    for part in result["step_ms"]:
        table.add_row(f"{part}, ms", *(f"{loop['step_ms'][part]:,.1f}" for loop in loops.values()))
    table.add_row("processor time of a step, ms", *(f"{loop['cpu_ms_per_step']:,.0f}" for loop in loops.values()))
    table.add_row("peak memory, MB", *(f"{loop['peak_memory_bytes'] / 1e6:,.0f}" for loop in loops.values()))
    starts = [f"{loop['first_steps_seconds']:.1f}" for loop in loops.values()]
    table.add_row("first 5 steps, compiling included, s", *starts)
    console.print(table)
    if "ratio" in result:
        ratio, cpu = result["ratio"], result["cpu_ratio"]
        console.print(
            f"[bold]{ratio['median']:.2f}x[/bold] the plain loop (rounds from {ratio['min']:.2f}x to "
            f"{ratio['max']:.2f}x); processor time {cpu['median']:.2f}x. "
            f"Losses of the first 5 steps differ by {result['loss_difference']:.1e} at most."
        )
    console.print(
        f"{result['device']}; {result['rounds']} rounds of {result['steps']} steps, "
        f"{result['busy_processes_beside']} busy processes beside."
    )


def _print_choices(choices: Mapping[str, str]) -> None:
    for name, line in choices.items():
        console.print(f"[bold]{name:<14}[/bold] {escape(line)}", soft_wrap=True)


def _print_entry(entry: "Entry") -> None:
    console.print(f"[bold]{entry.name}[/bold]\n\n{escape(entry.text)}\n", soft_wrap=True)
    console.print(f"{escape(entry.usage)}\n", soft_wrap=True)
    if entry.settings:
        table = Table("setting", "type", "default")
        for setting in entry.settings:
            table.add_row(*map(escape, setting))
        console.print(table)
    console.print(
        f"Cost with a ResNet-32 pair at 100 classes: {entry.passes:g} forward passes per student and step, "
        f"{entry.extra_parameters:,} training-only parameters.",
        soft_wrap=True,
    )


def main() -> None:
    """The entry point: whatever the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except SystemExit as ending:  # how a command ends, well or not
        leave(ending.code if isinstance(ending.code, int) else int(ending.code is not None))
    except UserError as error:
        errors.print(f"[bold red]Error:[/bold red] {escape(str(error))}", soft_wrap=True)
        leave(2)
    except DivergedError as error:
        errors.print(
            f"[bold red]Training diverged:[/bold red] {escape(str(error))} "
            "The checkpoint of the last epoch that was good, if any, is kept. "
            "Try a lower optimizer.lr, more optimizer.warmup_epochs or optimizer.clip_norm=5.",
            soft_wrap=True,
        )
        leave(1)
    except ProcessLost as error:
        Console(stderr=True).print(
            f"[bold red]Training stopped:[/bold red] {error} "
            "All up to the last checkpoint is saved: start the job again with --resume.",
            soft_wrap=True,
        )
        leave(1)
    except SaveError as error:
        errors.print(f"[bold red]Training stopped:[/bold red] {escape(str(error))}", soft_wrap=True)
        leave(1)
    except OutOfMemory as error:
        errors.print(f"[bold red]Out of memory:[/bold red] {escape(str(error))}", soft_wrap=True)
        leave(1)


if __name__ == "__main__":
    main()
