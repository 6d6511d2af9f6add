"""The command line: which commands there are, and what becomes of errors.

A command is imported when it is called, so that help comes at once and ``predict`` needs no PyTorch.
"""

# First of all, for it is read when torch is loaded: idle threads of one step must not keep a core busy that others
# need. On a machine with neighbours that is most of the time (docs/performance.md).
import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import io
import sys
from importlib import import_module
from typing import Annotated, Any

try:
    import typer
    from rich.markup import escape
    from typer.core import TyperGroup

    from codistill import __version__
    from codistill.cli.shared import console, errors, new_app
    from codistill.errors import TrainingEnded, UserError
    from codistill.errors.libraries import Fault, fault_behind
    from codistill.errors.terminal import Terminal
    from codistill.training.distributed.launcher import leave
except KeyboardInterrupt:  # these take a moment, in which nothing was begun that could be told of
    raise SystemExit(130) from None
except ModuleNotFoundError as missing:  # typer, say: then there is nothing to print with
    from codistill.errors.libraries import fault_behind

    if (fault := fault_behind(missing)) is None:
        raise
    sys.stderr.write(f"Error: codistill needs {fault}\n")
    raise SystemExit(2) from None

# Each is a file of codistill/commands with an `app`.
COMMANDS = {
    "train": "Train a cohort.",
    "versus": "Do peers pay on your images? One network alone and with peers, at equal time, and a verdict.",
    "evaluate": "Measure the test accuracy of a finished run again, from its saved weights.",
    "export": "One network of a run for use elsewhere: weights, a PyTorch program or ONNX, checked on the test images.",
    "predict": "Classes and probabilities of images, by an export or a student of a run.",
    "latency": "How long an export, or a student of a run, takes to answer on the CPU of this machine.",
    "compare": "Test accuracy of runs side by side; mean and standard deviation where they differ only by seed.",
    "sweep": "Train many runs: rows, grids and seeds of a file. Stop it and start it again at any time.",
    "analyse": "What the students of runs learned: how rich, how different, how sure, and who knew what first.",
    "report": "One HTML page about a run or a folder of runs, with its figures as SVG and PNG.",
    "relocate": "Tell runs where their data moved to, so that they can be resumed, evaluated and exported again.",
    "stress": "The collapse test: one student is harmed on purpose; what do its peers lose, with each method?",
    "plan": "What a training run would cost, before it starts: sizes, passes, memory and time.",
    "bench": "Images per second, time of each part of a step, and memory, of any configuration on this machine.",
    "methods": "The methods: how students learn from each other. 'methods show NAME' tells all.",
    "tasks": "The auxiliary tasks that a student can be given. 'tasks show NAME' tells all.",
    "models": "The networks that can be students, with their parameters at 100 classes.",
    "cache": "The decoded images that are kept on disk, so that a run on the same data starts at once.",
    "doctor": "What codistill runs on here; and whether an interrupted run goes on exactly.",
}

OPTIONS = "--help lists its options where that is installed; docs/configuration.md lists all KEY=VALUE."


class Commands(TyperGroup):
    """Lists every command; imports the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        try:
            module = import_module(f"codistill.cli.{name}")
        except (ImportError, OSError) as error:  # the latter of libraries of the system
            fault = fault_behind(error)
            if fault is None:
                raise
            if "--help" in rest:
                console.print(escape(f"{name}: {COMMANDS[str(name)]}\n\n{_needs(fault)}\n{OPTIONS}"), soft_wrap=True)
                raise typer.Exit from error
            raise UserError(_needs(fault)) from error
        return name, typer.main.get_command(module.app), rest


def _needs(fault: Fault) -> str:
    return f"This command needs {fault}"


app = new_app(
    name="codistill",
    cls=Commands,
    no_args_is_help=True,
    help="Train several small networks together so that each ends better than alone, and keep one.",
    epilog="Start with [bold]codistill train[/bold]: two networks, handwritten digits, half a minute.",
)


def _listed() -> None:
    """What stands for a command until it is imported."""


for _name, _line in COMMANDS.items():
    app.command(_name, help=_line)(_listed)


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


def _end(message: str) -> None:
    errors.print(f"[bold red]Error:[/bold red] {escape(message)}", soft_wrap=True)
    leave(2)


def main() -> None:
    """The entry point: whatever the user can mend is one line on stderr and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # what a name tells, where it cannot be written as it is
    try:
        app()
    except KeyboardInterrupt:
        leave(130)
    except SystemExit as ending:  # how a command ends, well or not
        leave(ending.code if isinstance(ending.code, int) else int(ending.code is not None))
    except UserError as error:
        _end(str(error))
    except ImportError as error:  # of what a command imports later on
        if (fault := fault_behind(error)) is None:
            raise
        _end(_needs(fault))
    except TrainingEnded as error:
        to = Terminal(stderr=True, highlight=False) if error.told_by_all else errors
        to.print(f"[bold red]{error.headline}:[/bold red] {escape(f'{error} {error.advice}'.strip())}", soft_wrap=True)
        leave(1)


if __name__ == "__main__":
    main()
