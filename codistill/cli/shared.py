"""What several commands share: where they print, and how their arguments are read. No torch in here."""

import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.markup import escape
from rich.table import Table

from codistill.errors import UserError
from codistill.errors.printable import printable
from codistill.errors.terminal import Terminal
from codistill.training.distributed.launcher import is_main

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


class TitledTable(Protocol):
    """What ``print_tables`` prints."""

    @property
    def title(self) -> str: ...
    @property
    def header(self) -> list[str]: ...
    @property
    def cells(self) -> list[list[str]]: ...


def print_tables(tables: Sequence[TitledTable]) -> None:
    """Each below its title, if it has one."""
    for table in tables:
        if table.title:
            console.print(escape(table.title), soft_wrap=True)
        print_table(table.header, table.cells)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A row for each where that fits the terminal, words of headers and cells below each other if need be. Else a
    column for each, or as many columns as fit below each other: what takes fewer lines."""
    lines = [[printable(cell) for cell in line] for line in (header, *rows)]
    columns = [list(column) for column in zip(*lines, strict=True)]
    if _width(folded := _folded(columns)) < console.width:
        parts = [folded]
    else:
        parts = min(
            list(_side_by_side(columns)),
            list(_side_by_side(lines)),
            key=lambda parts: len(parts) * (len(parts[0][0]) + 3),
        )
    for part in parts:
        table = Table()
        for column in part:
            table.add_column(escape(column[0]), overflow="fold", no_wrap=_width([column]) <= console.width // 2)
        for line in zip(*(column[1:] for column in part), strict=True):
            table.add_row(*map(escape, line))
        console.print(table)


_NARROW = 9  # characters of a column that is not folded further
# Where a cell may go on in the next line: between words, and within names where that is not enough. Never in numbers.
_BREAKS = (r"(?<= )(?=[A-Za-z(]|\d+x)", r"(?<= )(?=[A-Za-z(]|\d+x)|(?<=[_/])|(?<=-)(?=[A-Za-z])")


def _folded(columns: list[list[str]]) -> list[list[str]]:
    """The columns, narrower where that makes them fit: headers first, then the widest cells."""
    found = columns
    if _width(found) >= console.width:
        found = [[_wrapped(own[0], max(map(len, own[1:]), default=0)), *own[1:]] for own in columns]
    for breaks in _BREAKS:
        foldable = set(range(len(found)))
        while _width(found) >= console.width and foldable:
            place = max(foldable, key=lambda own: _column_width(found[own]))
            width = _column_width(found[place])
            narrower = [_wrapped(cell, width - 1, breaks) for cell in columns[place]]
            if width > _NARROW and _column_width(narrower) < width:
                found[place] = narrower
            else:
                foldable.remove(place)
    return found


def _wrapped(text: str, width: int, breaks: str = _BREAKS[0]) -> str:
    """In lines of that width, or as wide as the longest part between two breaks."""
    lines = [""]
    for part in re.split(breaks, text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(map(str.rstrip, lines))


def _column_width(column: Sequence[str]) -> int:
    return max(map(_widest, column))


def _widest(cell: str) -> int:
    return max(map(len, cell.split("\n")))


def _width(columns: Sequence[Sequence[str]]) -> int:
    """Of a table, without its left border."""
    return sum(_column_width(column) + 3 for column in columns)


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
