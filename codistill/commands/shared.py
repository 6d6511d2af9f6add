"""What several commands share: where they print, and how their arguments are read. No torch in here."""

import itertools
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from codistill.engine.launched import is_main
from codistill.errors import UserError
from codistill.printable import printable
from codistill.terminal import Terminal

# Of several processes one speaks: what all find wrong need not be read from each.
console = Terminal(highlight=False, quiet=not is_main())
errors = Terminal(stderr=True, highlight=False, quiet=not is_main())

RunArgument = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
# Of commands that ask a network for answers.
NetworkArgument = Annotated[Path, typer.Argument(metavar="EXPORT_OR_RUN", help="A folder.", show_default=False)]
StudentOption = Annotated[
    str | None, typer.Option(help="Of a run; default: the best by validation accuracy.", show_default=False)
]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Run an export to torch, which is a program, or the factory of your own model.")
]
ConfigArguments = Annotated[list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", show_default=False)]


class _App(typer.Typer):
    """Its commands are given every path with ``~`` as the folder that a shell makes of it.

    A shell leaves it alone in quotes, in ``--out=~/x`` and in ``run=~/x``. A folder that is called ``~`` must not come
    of that: whoever then removes it by that name removes all they have.
    """

    def command(self, *names: Any, **settings: Any) -> Callable[[Any], Any]:
        add = super().command(*names, **settings)

        def added(function: Callable[..., None]) -> Callable[..., None]:
            @wraps(function)
            def told_paths(**arguments: Any) -> None:
                function(**{name: _paths_at_home(value) for name, value in arguments.items()})

            add(told_paths)
            return function

        return added


def _paths_at_home(value: Any) -> Any:
    if isinstance(value, list):
        return [_paths_at_home(item) for item in value]
    return at_home(value) if isinstance(value, Path) else value


def at_home(path: str | Path) -> Path:
    """``~/x`` in the folder of its user. For what is not of type Path, in which commands have it already."""
    return Path(os.path.expanduser(path))


def new_app(**settings: Any) -> typer.Typer:
    """A command, or a group of them."""
    return _App(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich", **settings)


def recipe_and_keys(arguments: Sequence[str] | None) -> tuple[Path | None, list[str]]:
    """``[RECIPE] [KEY=VALUE]...``: only a recipe, and only in the first place, is without ``=``."""
    check_no_spaces(arguments or [])
    if arguments and "=" not in arguments[0]:
        return at_home(arguments[0]), list(arguments[1:])
    return None, list(arguments or [])


def check_no_spaces(arguments: Sequence[str]) -> None:
    """Raises UserError for ``key =value``, ``key= value`` and ``key = value``, which a shell makes several words of."""
    for place, (one, other) in enumerate(itertools.pairwise(arguments)):
        before = other.startswith("=") and "=" not in one
        after = one.endswith("=") and one.count("=") == 1 and "=" not in other
        if before or after:
            words = arguments[place : place + (3 if other == "=" else 2)]
            raise UserError(
                f"'{' '.join(words)}' has a space beside '='. Write {shlex.quote(''.join(words))}, in one word."
            )


def new_run(name: str) -> Path:
    """A folder in runs/ that is not there yet, named by time."""
    stem = f"{datetime.now():%Y-%m-%d_%H%M%S_%f}"[:-3]
    return Path("runs") / f"{stem}_{name}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A row for each where that fits the terminal. Else a column for each, or as many columns as fit below each other:
    what takes fewer lines."""
    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    columns = [list(column) for column in zip(*lines, strict=True)]
    parts = list(_side_by_side(columns))
    if len(parts) > 1:
        parts = min(parts, list(_side_by_side(lines)), key=lambda parts: len(parts) * (len(parts[0][0]) + 3))
    for part in parts:
        table = Table()
        for column in part:
            table.add_column(escape(column[0]), overflow="fold", no_wrap=_width([column]) <= console.width // 2)
        for line in zip(*(column[1:] for column in part), strict=True):
            table.add_row(*map(escape, line))
        console.print(table)


def _width(columns: Sequence[Sequence[str]]) -> int:
    """Of a table, without its left border."""
    return sum(max(map(len, column)) + 3 for column in columns)


def _side_by_side(columns: list[list[str]]) -> Iterator[list[list[str]]]:
    """As many columns as fit the terminal, then the next ones, each time after the first, which says what a line is."""
    first, *others = columns
    part = [first]
    for column in others:
        if len(part) > 1 and _width([*part, column]) >= console.width:
            yield part
            part = [first]
        part.append(column)
    yield part
