"""What a page consists of: sections of figures, tables and images, and how numbers are written."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codistill.evaluation.compare.differences import Difference
from codistill.evaluation.report.drawing import Figure
from codistill.evaluation.report.images import Card
from codistill.evaluation.report.run_record import Story


@dataclass
class Table:
    """Text in cells. The first column names its row."""

    caption: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """A heading with what is below it. ``missing``: lines of (what is not here, the command that would make it)."""

    key: str
    title: str
    lead: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    cards: Sequence[Card] = ()
    missing: list[tuple[str, str]] = field(default_factory=list)
    folded: str = ""  # plain text that is shown on demand
    points: Sequence[str] = ()  # of a list


def command(*words: str | Path) -> str:
    """A command of codistill, to be pasted into a shell."""
    return shlex.join(["codistill", *map(str, words)])


def how_to_analyse(story: Story) -> tuple[str, str]:
    """For what the analysis of a run would fill."""
    if not story.finished:
        return "It needs a finished run.", "" if story.training else command("train", "--resume", story.path)
    return "It needs the run's analysis.", command("analyse", story.path)


def number(value: Any, digits: int = 2) -> str:
    """With so many decimals; empty for what is not known."""
    return "" if value is None else f"{value:,.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """With a plus, or a minus as wide as it; nothing has neither."""
    value = round(value, digits) + 0.0
    return f"{value:{'+' if value else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def told(gain: Difference) -> str:
    """``+2.13 points, 95 % CI +0.40 to +3.86 (3 seeds)``."""
    limits = f", 95 % CI {between(gain)}" if between(gain) else ""
    return f"{signed(gain.mean)} points{limits} ({gain.basis})"


def between(gain: Difference) -> str:
    """``+0.40 to +3.86``; nothing where there is no interval, or its limits do not differ as they are written."""
    low, high = map(signed, gain.interval or (0.0, 0.0))
    return "" if low == high else f"{low} to {high}"
