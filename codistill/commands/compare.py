"""``codistill compare``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from codistill.commands.shared import errors, new_app, print_table
from codistill.report import compare as report

app = new_app()


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Test accuracy of runs side by side; mean and standard deviation where they differ only by seed."""
    comparison = report.compare(runs)
    if markdown:
        sys.stdout.write(report.markdown(comparison))
    else:
        print_table(*report.table(comparison))
    if comparison.differing_terms:
        errors.print(f"These rows do not compete, for they differ in: {', '.join(comparison.differing_terms)}.")
