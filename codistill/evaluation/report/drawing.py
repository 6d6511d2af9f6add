"""The house style of figures: small, quiet, labelled where the eye is, so that a telephone shows them as they are.

A figure is 360 pixels wide. Wide screens show several in a row, narrow ones one below the other, and nobody has to
zoom. Text stays text. matplotlib's objects are used, never pyplot, so that nothing is shared between figures.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from codistill.errors.printable import printable
from codistill.evaluation.report.palette import INK, LIGHT, MUTED, RULE, with_variables

WIDTH, HEIGHT = 5.0, 3.2  # inches of 72 pixels
FONT = "DejaVu Sans"  # comes with matplotlib, and is wide: what fits in it fits in the font of a page
LONGEST = 16  # characters of a name
STYLE: Any = {
    "font.family": [FONT],
    "font.size": 11,
    "text.color": LIGHT[INK],
    "text.parse_math": False,  # names of classes and runs are not formulas
    "axes.edgecolor": LIGHT[RULE],
    "axes.labelcolor": LIGHT[MUTED],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "grid.color": LIGHT[RULE],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT[MUTED],
    "ytick.color": LIGHT[MUTED],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "svg.fonttype": "none",
    "savefig.dpi": 200,
}


class Figure(NamedTuple):
    """A drawing with what is said of it. ``alt``: for those who do not see it."""

    name: str  # of its files
    title: str
    alt: str
    note: str
    svg: str  # for the page
    canvas: Canvas

    def save(self, folder: Path, kinds: Sequence[str] = ("svg", "png")) -> list[Path]:
        """In light colours. Returns the files."""
        paths = [folder / f"{self.name}.{kind}" for kind in kinds]
        with rc_context({**STYLE, "svg.hashsalt": self.name}), _quiet():
            for path in paths:
                metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
                self.canvas.savefig(path, metadata=metadata, facecolor="white")
        return paths


def draw(
    name: str,
    title: str,
    plot: Callable[[Axes], None],
    *,
    alt: str,
    note: str = "",
    height: float = HEIGHT,
    width: float = WIDTH,
) -> Figure:
    """One figure with one pair of axes, on which ``plot`` draws."""
    name = re.sub(r"[^\w.-]+", "_", name)
    with rc_context({**STYLE, "svg.hashsalt": name}), _quiet():
        canvas = Canvas(figsize=(width, height), layout="constrained")
        plot(canvas.add_subplot())
        stream = io.StringIO()
        canvas.savefig(stream, format="svg", metadata={"Date": None})
    return Figure(name, title, alt, note, _inline(stream.getvalue()), canvas)


def short(name: str, longest: int = LONGEST) -> str:
    """A name that fits. What tells names apart is often at their ends, so the middle goes."""
    name = printable(name)
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end]}…{name[-end:]}"


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 0.08) -> None:
    """Names at the right ends of lines: (y, name, colour) each; moved apart by ``gap`` (of the height) at least."""
    low, high = (axes.transData.transform((0, limit))[1] for limit in axes.get_ylim())
    heights = [(axes.transData.transform((0, y))[1] - low) / (high - low) for y, _, _ in ends]
    for place, height in zip(spread(heights, gap), _sorted(heights), strict=True):
        _, name, colour = ends[height]
        axes.text(1.015, place, short(name), color=colour, transform=axes.transAxes, va="center", fontsize=10.5)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights, sorted, moved as little as keeps them ``gap`` apart and within [0, 1] where they fit."""
    places = sorted(heights)
    gap = min(gap, 1 / max(len(places) - 1, 1))
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    top = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - gap
    return places


def epochs_axis(axes: Axes, epochs: Sequence[int]) -> None:
    """Whole epochs, and no empty room."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    first, last = epochs[0], epochs[-1]
    axes.set_xlim((first, last) if last > first else (first - 0.5, last + 0.5))
    axes.set_xlabel("epoch")


def limits(values: Iterable[float | None]) -> tuple[float, float] | None:
    """The smallest and largest of what is known."""
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _sorted(heights: Sequence[float]) -> list[int]:
    return sorted(range(len(heights)), key=lambda place: heights[place])


def _inline(svg: str) -> str:
    """What a page needs of an SVG file: no prolog, no ids but those that are used, its colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = svg.replace(f"'{FONT}'", "var(--font)")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    return with_variables(re.sub(r"\n\s*", "\n", svg))


@contextmanager
def _quiet() -> Iterator[None]:
    """A letter that the font lacks is a box, without a warning for each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield
