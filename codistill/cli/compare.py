"""``codistill compare``."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.shared import errors, new_app, print_tables
from codistill.errors import UserError
from codistill.errors.nearest import did_you_mean, similar_path
from codistill.errors.printable import printable
from codistill.evaluation.compare import rows as report
from codistill.evaluation.compare.controls import find_row, missing
from codistill.evaluation.compare.spreadsheet import to_csv
from codistill.evaluation.compare.tables import latex, narrow_tables, tables
from codistill.evaluation.compare.tables import markdown as to_markdown
from codistill.evaluation.report.run_record import find_runs

app = new_app()


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN|FOLDER...", help="Runs, or folders of runs.", show_default=False)
    ],
    against: Annotated[
        str | None,
        typer.Option(metavar="ROW", help="Differences to this row, whatever its terms; default: to controls."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables as Markdown.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print a line for each row and accuracy, unrounded.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print tables for LaTeX, with booktabs.")] = False,
) -> None:
    """Test accuracy of runs side by side; mean and standard deviation where they differ only by seed.

    Each row is compared with two controls: the same students and tasks without teaching, and plain training, without
    tasks too, at equal compute. Commands for those that are missing are printed.

    What is no run, or not finished, is named on stderr and passed over.
    """
    if markdown + csv + as_latex > 1:
        raise UserError("Give one of --markdown, --csv and --latex.")
    comparison = report.compare(_finished(runs))
    named = find_row(against, comparison.rows) if against is not None else None
    if csv:
        sys.stdout.write(to_csv(comparison, against))
    elif markdown:
        sys.stdout.write(to_markdown(tables(comparison, against)))
    elif as_latex:
        sys.stdout.write(latex(tables(comparison, against)))
    else:
        print_tables(narrow_tables(comparison, against))
    if comparison.differing_terms and len(comparison.blocks) > 1:
        computed = "No difference between them is computed, unless --against names a row."
        if against is not None:
            computed = f"What differs from '{against}' stands beside each difference to it."
        differ = ", ".join(comparison.differing_terms)
        errors.print(escape(f"These blocks do not compete, for they differ in: {differ}. {computed}"), soft_wrap=True)
    for row in comparison.rows:
        if named is not None and set(row.seeds).isdisjoint(named.seeds):
            seeds = " and ".join(", ".join(map(str, own.seeds)) for own in (row, named))
            text = f"No difference of '{row.name}' to '{against}': they have no seed in common ({seeds})."
            errors.print(escape(text), soft_wrap=True)
    if named is not None:
        return
    for text, command in dict.fromkeys(line for block in comparison.blocks for line in missing(block)):
        errors.print(escape(f"{text}: {command}"), soft_wrap=True)


def _finished(places: Sequence[Path]) -> list[Path]:
    """The finished runs among these folders, and in those that are no runs. The others are told."""
    candidates: dict[Path, None] = {}
    for place in places:
        if not place.exists():  # a slip of the pen, most likely
            raise UserError(f"Run folder '{place}' does not exist.{did_you_mean(similar_path(place, os.path.isdir))}")
        try:
            candidates |= dict.fromkeys(find_runs(place))
        except UserError:
            candidates[place] = None
    finished = [run for run in candidates if (run / "summary.json").exists()]
    if not finished:
        return list(candidates)  # whoever reads the first one says what it lacks
    for path in candidates:
        if path not in finished:
            why = "is not finished" if (path / "config.yaml").exists() else "is no run"
            errors.print(escape(f"Passed over: '{printable(str(path))}' {why}."), soft_wrap=True)
    return finished
