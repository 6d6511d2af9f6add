"""One page about one run or a folder of runs: a single HTML file that needs no network."""

import base64
import hashlib
import shlex
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from codistill import __version__
from codistill.errors import UserError
from codistill.errors.printable import printable, printable_lines
from codistill.evaluation.compare.rows import Row
from codistill.evaluation.report import palette
from codistill.evaluation.report.drawing import Figure
from codistill.evaluation.report.overview import Overview, facts, overview
from codistill.evaluation.report.parts import Section
from codistill.evaluation.report.run_record import Story, find_runs, read_story
from codistill.evaluation.report.sections import sections_of

TEMPLATES = Environment(
    loader=PackageLoader("codistill.evaluation.report"),
    autoescape=select_autoescape(default=True, default_for_string=True),  # names are written by others
    undefined=StrictUndefined,
    finalize=lambda value: printable_lines(value) if type(value) is str else value,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Page(NamedTuple):
    """A page, and its figures for the files beside it."""

    html: str
    figures: list[Figure]
    training: bool  # whether a process trains one of the runs now


def make_page(folder: Path, refresh: int | None = None) -> Page:
    """Read a run or a folder of runs and tell it. ``refresh``: seconds after which the page loads itself again.

    Raises UserError if there is no run, or a file of one is damaged.
    """
    runs = find_runs(folder)
    stories = [read_story(run) for run in runs]
    top = overview(stories, _beside(folder) if runs == [folder] else [])
    told: list[tuple[Story, list[Section]]] = []
    for story, row in _parts(stories, top):
        found = [top.controls.get(story.path), top.plain.get(story.path)]
        control, plain = (read_story(path) if path else None for path in found)
        others = [other for other in stories if row and other.path in row.runs and other != story]
        told.append((story, sections_of(story, row, control, plain, others)))
    training = any(story.training for story in stories)
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = TEMPLATES.get_template("page.html.jinja").render(
        title=printable(folder.resolve().name),
        top=top,
        told=told,
        facts=facts(stories),
        training=training,
        refresh=refresh if training else None,
        light=palette.css(palette.LIGHT),
        dark=palette.css(palette.DARK),
        style=_read("page.css"),
        script=script,
        script_hash=digest,
        version=__version__,
        command=shlex.join(["codistill", "report", str(folder)]),
    )
    figures = [*top.figures, *(figure for _, sections in told for section in sections for figure in section.figures)]
    return Page(html, figures, training)


def write_page(page: Page, out: Path) -> None:
    """Put a page in its place at once: no browser loads half of one. Raises UserError if it cannot be written."""
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page.html, encoding="utf-8", errors="replace")
        temporary.replace(out)
    except OSError as error:
        raise UserError(f"The report cannot be written to '{out}': {error.strerror}. Choose another --out.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_figures(page: Page, folder: Path) -> int:
    """Every figure as SVG and PNG. Returns how many figures. Raises UserError if they cannot be written."""
    taken: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for figure in page.figures:  # names were shortened to what files may be called, which may have made them alike
            names = (figure.name if number == 1 else f"{figure.name}_{number}" for number in count(1))
            name = next(name for name in names if name.casefold() not in taken)  # not all disks tell case
            taken.add(name.casefold())
            figure._replace(name=name).save(folder)
    except OSError as error:
        raise UserError(
            f"Figures cannot be written to '{folder}': {error.strerror}. Choose other --figures."
        ) from error
    return len(page.figures)


def _beside(run: Path) -> list[Path]:
    """Finished runs in the same folder as this one, among which its control may be."""
    found = sorted(path.parent for path in run.resolve().parent.glob("*/summary.json"))
    return [path for path in found if path != run.resolve()]


def _parts(stories: list[Story], top: Overview) -> list[tuple[Story, Row | None]]:
    """Of each row the first run, one with a control if there is one: the others are in the overview. And what is in no
    row: it is not finished, or does not compare."""
    own = {story.path: story for story in stories}
    rows = {min(row.runs, key=lambda run: run not in top.controls): row for row in top.rows}
    in_rows = {run for row in top.rows for run in row.runs}
    found = [(story, rows.get(path)) for path, story in own.items() if path in rows or path not in in_rows]
    return sorted(found, key=lambda part: part[0].alone)  # what is asked about comes first


def _read(name: str) -> str:
    assert TEMPLATES.loader is not None
    return TEMPLATES.loader.get_source(TEMPLATES, name)[0]
