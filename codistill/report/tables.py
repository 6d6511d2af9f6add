"""A comparison as tables of text, for terminals, Markdown pages and LaTeX."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple

from codistill.printable import printable
from codistill.report.compare import Block, Comparison, Row, mean_and_deviation
from codistill.report.controls import role
from codistill.report.differences import Difference, Measure, differences, measures, students_of
from codistill.report.statistics import Interval

MEAN = Measure("students' mean")


class Table(NamedTuple):
    """Cells as text; the first line of each column says what is in it."""

    title: str
    header: list[str]
    cells: list[list[str]]


def tables(
    comparison: Comparison,
    against: str | None = None,
    *,
    timing: bool = True,
    details: Literal["all", "mean", "none"] = "all",
) -> list[Table]:
    """For each block a table of accuracies, and one of differences in all of them, or in the students' mean alone.

    ``timing=False`` where runs were not timed under equal conditions.
    """
    found = []
    for number, block in enumerate(comparison.blocks, 1):
        own = differences(block, against)
        terms = ", ".join(f"{key}={value}" for key, value in block.terms.items())
        title = f"Block {number} of {len(comparison.blocks)}: {terms}" if len(comparison.blocks) > 1 else ""
        found.append(Table(title, *_accuracies(block, own, against, timing)))
        told = [one for one in own if details == "all" or one.measure._replace(selected=False) == MEAN]
        if told and details != "none":
            found.append(Table(f"{title}; differences" if title else "Differences", *_differences(block, told)))
    return found


def markdown(found: Sequence[Table]) -> str:
    """Tables for a Markdown page, each below its title."""
    texts = []
    for table in found:
        lines = [table.header, ["---"] * len(table.header), *([_escape(cell) for cell in line] for line in table.cells)]
        title = f"{table.title}:\n\n" if table.title else ""
        texts.append(title + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    return "\n".join(texts)


def latex(found: Sequence[Table]) -> str:
    r"""Each table as a ``tabular`` with the rules of booktabs (``\usepackage{booktabs}``)."""
    texts = []
    for table in found:
        lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in (table.header, *table.cells)]
        columns = "".join("l" if _is_text(column) else "r" for column in zip(*table.cells, strict=True))
        title = [f"% {' '.join(table.title.split())}"] if table.title else []
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        texts.append("\n".join([*title, rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n")
    return "\n".join(texts)


def escape_latex(text: str) -> str:
    r"""Text as LaTeX shows it: its special characters as commands, ``±`` and minus signs as mathematics."""
    escaped = re.sub(r"[\\{}$&#%_^~<>|±]|(?<![\w.])-(?=\d)", lambda match: _LATEX[match[0]], printable(text))
    return f"{{}}{escaped}" if escaped.startswith("[") else escaped  # or a line break would take it for a length


def _accuracies(
    block: Block, own: Sequence[Difference], against: str | None, timing: bool
) -> tuple[list[str], list[list[str]]]:
    names = students_of(block.rows)
    kinds = [measure for measure in measures(block.rows) if not measure.selected or measure.kind != "student"]
    by_row = {difference.row: difference for difference in own if difference.measure == MEAN}
    columns: dict[str, list[str]] = {"run": [_name(row, block) for row in block.rows]}
    columns["method"] = [row.method for row in block.rows]
    columns["tasks"] = [row.tasks for row in block.rows]
    for measure in kinds:
        columns[measure.label(names)] = [_shown(measure, row) for row in block.rows]
        if measure == MEAN and own:
            columns[f"mean vs. {against or 'control'}"] = [_difference(by_row.get(row.name)) for row in block.rows]
    columns["seeds"] = [str(len(row.seeds)) for row in block.rows]
    columns["training-only parameters"] = [f"{row.cost.training_only:,}" for row in block.rows]
    if any(row.cost.passes for row in block.rows):
        columns["passes a step"] = [f"{row.cost.passes:g}" if row.cost.passes else "" for row in block.rows]
    if any(row.cost.processor_seconds for row in block.rows):
        columns["processor minutes"] = [_mean(row.cost.processor_seconds, 1 / 60, ".1f") for row in block.rows]
    if timing:
        columns["minutes a run"] = [f"{fmean(row.cost.seconds) / 60:.1f}" for row in block.rows]
        columns["training minutes"] = [_mean(row.cost.training_seconds, 1 / 60, ".1f") for row in block.rows]
        columns["images/s"] = [_mean(row.cost.images_per_second, 1, ",.0f") for row in block.rows]
    if any(row.settings for row in block.rows):
        columns["also differs"] = [", ".join(f"{k}={v}" for k, v in row.settings.items()) for row in block.rows]
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _differences(block: Block, own: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    names = students_of(block.rows)
    columns = {
        "run": [difference.row for difference in own],
        "against": [difference.against for difference in own],
        "accuracy of": [difference.measure.label(names) for difference in own],
        "seeds": [str(len(difference.seeds)) for difference in own],
        "difference": [f"{difference.mean:+.2f}" for difference in own],
        "95 %, t over seeds": [brackets(difference.t) for difference in own],
        "95 %, bootstrap of seeds": [brackets(difference.over_seeds) for difference in own],
        "95 %, bootstrap of images": [brackets(difference.over_images) for difference in own],
        "McNemar p of each seed": [", ".join(f"{p:.2g}" for p in difference.mcnemar) for difference in own],
    }
    known = {name: column for name, column in columns.items() if any(column)}  # one seed has no interval over seeds
    return list(known), [list(line) for line in zip(*known.values(), strict=True)]


def _name(row: Row, block: Block) -> str:
    what = role(row, block)
    return f"{row.name} ({what})" if what else row.name


def _shown(measure: Measure, row: Row) -> str:
    values = measure.values(row)
    return mean_and_deviation(values) if values else ""


def _difference(difference: Difference | None) -> str:
    """``+2.21 [0.40, 4.02]``, the interval being Student's."""
    return "" if difference is None else f"{difference.mean:+.2f} {brackets(difference.t)}".strip()


def brackets(interval: Interval | None) -> str:
    """``[0.40, 4.02]``, or nothing."""
    return "" if interval is None else f"[{interval.low:.2f}, {interval.high:.2f}]"


def _mean(values: Sequence[float], factor: float, form: str) -> str:
    return format(factor * fmean(values), form) if values else ""


def _escape(cell: str) -> str:
    return printable(cell).replace("|", r"\|")


def _is_text(column: Sequence[str]) -> bool:
    """Numbers stand to the right."""
    return any(cell and not re.match(r"[-+\[\d]", cell) for cell in column)


_LATEX = {character: f"\\{character}" for character in "{}$&#%_"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "-": "$-$",
}
