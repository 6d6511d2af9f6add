"""A comparison as tables of text, for terminals, Markdown pages and LaTeX."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from codistill.errors.printable import printable
from codistill.evaluation.compare.comparability import written
from codistill.evaluation.compare.controls import EQUAL, PLAIN, WITHOUT_TEACHING, find_row, role
from codistill.evaluation.compare.differences import Difference, Measure, differences, measures, students_of
from codistill.evaluation.compare.rows import Block, Comparison, Row, mean_and_deviation
from codistill.evaluation.compare.statistics import Interval

MEAN = Measure("students' mean")


class Table(NamedTuple):
    """Cells as text; the first line of each column says what is in it."""

    title: str
    header: list[str]
    cells: list[list[str]]


def tables(
    comparison: Comparison, against: str | None = None, *, timing: bool = True, details: bool = True
) -> list[Table]:
    """For each block a table of accuracies and costs, and with ``details`` one of all differences.

    against: the row that the others are compared with, also those of other blocks; else each row's controls.
    ``timing=False`` where runs were not timed under equal conditions.
    """
    found, named = [], find_row(against, comparison.rows) if against is not None else None
    for title, block in _titled(comparison):
        own = differences(block, named)
        found.append(Table(title, *_accuracies(block, own, against, timing)))
        if own and details:
            found.append(Table(_joined(title, "differences"), *_differences(block, own)))
    return found


def narrow_tables(comparison: Comparison, against: str | None = None) -> list[Table]:
    """For a terminal: for each block accuracies, differences of the students' mean, what training took, and settings
    that differ."""
    found, named = [], find_row(against, comparison.rows) if against is not None else None
    for title, block in _titled(comparison):
        own = [one for one in differences(block, named) if one.measure == MEAN]
        found.append(Table(title, *_only_accuracies(block)))
        if own:
            found.append(Table(_joined(title, "differences of the students' mean"), *_only_mean(block, own)))
        found.append(Table(_joined(title, "training"), *_training(block)))
        if settings := _settings(block):
            found.append(Table(_joined(title, "what else differs"), ["run", "settings"], settings))
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


def _titled(comparison: Comparison) -> list[tuple[str, Block]]:
    """Blocks, each with the terms that set it apart; without a title where there is one."""
    blocks = comparison.blocks
    if len(blocks) == 1:
        return [("", blocks[0])]
    return [(f"Block {place} of {len(blocks)}: {written(own.terms)}", own) for place, own in enumerate(blocks, 1)]


def _joined(title: str, what: str) -> str:
    return f"{title}; {what}" if title else f"{what[0].upper()}{what[1:]}"


def _accuracies(
    block: Block, own: Sequence[Difference], against: str | None, timing: bool
) -> tuple[list[str], list[list[str]]]:
    names = students_of(block.rows)
    kinds = [measure for measure in measures(block.rows) if not measure.selected or measure.kind != "student"]
    columns: dict[str, list[str]] = {"run": [_name(row, block) for row in block.rows]}
    columns["method"] = [row.method for row in block.rows]
    columns["tasks"] = [row.tasks for row in block.rows]
    for measure in kinds:
        columns[measure.label(names)] = [_shown(measure, row) for row in block.rows]
        if measure == MEAN:
            columns |= _minus(block, own, against)
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
        columns["also differs"] = [written(row.settings) for row in block.rows]
    return _cells(columns)


def _minus(block: Block, own: Sequence[Difference], against: str | None) -> dict[str, list[str]]:
    """The students' mean minus that of each control, or of the row that was asked for: a column each."""
    of_mean = [one for one in own if one.measure == MEAN]
    columns = {}
    for kind in [None] if against is not None else [WITHOUT_TEACHING, PLAIN]:
        by_row = {one.row: one for one in of_mean if kind is None or kind in one.kinds}
        if by_row:
            column = EQUAL if kind == PLAIN else kind or against
            columns[f"mean minus {column}"] = [_difference(by_row.get(row.name), kind) for row in block.rows]
    return columns


def _differences(block: Block, own: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    names = students_of(block.rows)
    columns = {
        "run": [difference.row for difference in own],
        "against": [_against(difference) for difference in own],
        "differs in": [", ".join(difference.differs) for difference in own],
        "accuracy of": [difference.measure.label(names) for difference in own],
        "seeds": [str(len(difference.seeds)) for difference in own],
        "difference": [f"{difference.mean:+.2f}" for difference in own],
        "95 %, t over seeds": [brackets(difference.t) for difference in own],
        "95 %, bootstrap of seeds": [brackets(difference.over_seeds) for difference in own],
        "95 %, bootstrap of images": [brackets(difference.over_images) for difference in own],
        "McNemar p of each seed": [", ".join(f"{p:.2g}" for p in difference.mcnemar) for difference in own],
    }
    return _cells({name: column for name, column in columns.items() if any(column)})


def _only_accuracies(block: Block) -> tuple[list[str], list[list[str]]]:
    """After the last epoch, and deviations of the students' mean alone: a terminal is narrow."""
    names = students_of(block.rows)
    columns = {"run": [_name(row, block) for row in block.rows]}
    columns[MEAN.label(names)] = [_shown(MEAN, row) for row in block.rows]
    for measure in measures(block.rows):
        if measure != MEAN and not measure.selected:
            columns[measure.label(names)] = [_mean(measure.values(row) or [], 1, ".2f") for row in block.rows]
    return _cells(columns)


def _only_mean(block: Block, own: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    columns = {
        "run": [difference.row for difference in own],
        "minus": [_against(difference) for difference in own],
        "differs in": [", ".join(difference.differs) for difference in own],
        "points": [f"{difference.mean:+.2f}" for difference in own],
        "95 % CI": [brackets(difference.interval) for difference in own],
        "over": [difference.basis for difference in own],
    }
    return _cells({name: column for name, column in columns.items() if any(column)})


def _training(block: Block) -> tuple[list[str], list[list[str]]]:
    processor = [_mean(row.cost.processor_seconds, 1 / 60, ".1f") for row in block.rows]
    minutes = [f"{fmean(row.cost.seconds) / 60:.1f}" for row in block.rows]
    columns = {
        "run": [row.name for row in block.rows],
        "method (tasks)": [row.method if row.tasks == "none" else f"{row.method} ({row.tasks})" for row in block.rows],
        "epochs": [str(row.epochs or "") for row in block.rows],
        "seeds": [str(len(row.seeds)) for row in block.rows],
        "passes a step": [f"{row.cost.passes:g}" if row.cost.passes else "" for row in block.rows],
        **({"processor minutes": processor} if all(processor) else {"minutes": minutes}),
    }
    return _cells({name: column for name, column in columns.items() if any(column)})


def _settings(block: Block) -> list[list[str]]:
    """Of each row what else sets it apart, if anything does."""
    written_of = {row.name: written({k: v for k, v in row.settings.items() if k != "epochs"}) for row in block.rows}
    return [[name, settings] for name, settings in written_of.items() if settings]


def _against(difference: Difference) -> str:
    return f"{difference.against} ({difference.label})" if difference.label else difference.against


def _cells(columns: dict[str, list[str]]) -> tuple[list[str], list[list[str]]]:
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _name(row: Row, block: Block) -> str:
    what = role(row, block)
    return f"{row.name} ({what})" if what else row.name


def _shown(measure: Measure, row: Row) -> str:
    values = measure.values(row)
    return mean_and_deviation(values) if values else ""


def _difference(difference: Difference | None, kind: str | None) -> str:
    """``+2.21 [0.40, 4.02]``, the interval being Student's; with how long plain training was that is not
    at equal compute."""
    if difference is None:
        return ""
    unequal = f"({difference.unequal})" if kind == PLAIN and difference.unequal else ""
    return " ".join(filter(None, [f"{difference.mean:+.2f}", brackets(difference.t), unequal]))


def brackets(interval: Interval | None) -> str:
    """``[0.40, 4.02]``; nothing where there is no interval, or its limits do not differ as they are written."""
    low, high = (f"{limit:.2f}" for limit in interval or (0.0, 0.0))
    return "" if low == high else f"[{low}, {high}]"


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
