"""``codistill analyse``."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codistill.analyse import analyse_run
from codistill.commands.shared import console, errors, new_app, print_table
from codistill.report import analysis as report
from codistill.report.compare import compare
from codistill.report.gains import find_control
from codistill.run_files import ANALYSES

app = new_app()


class Split(StrEnum):
    """Which images are looked at."""

    test = "test"
    validation = "validation"


@app.command()
def analyse(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.", show_default=False)],
    data: Annotated[Split, typer.Option(help="Which images.")] = Split.test,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content of every analysis.json.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; any will do.")] = "auto",
) -> None:
    """What the students of runs learned: how rich, how different, how sure, and who knew what first.

    With a run and its control (method=independent, the same seed), images that only the run has right are kept, too.
    """
    terms = compare(runs)  # what is no finished run is refused before the first is analysed
    controls = {run: pair.control for run in runs if (pair := find_control(run, runs))}
    found: dict[str, dict[str, Any]] = {}
    for run in sorted(runs, key=lambda run: run in controls):  # a control comes before whoever is compared with it
        found[str(run)] = analyse_run(run, data, device, controls.get(run))
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    groups = report.read_groups(terms.rows, data)
    for group in groups:
        console.print(escape(report.title(group)), soft_wrap=True)
        print_table(*report.voices(group.analyses))
        print_table(*report.pairs(group.analyses))
        if (first := report.who_was_first(group.analyses)) is not None:
            print_table(*first)
    if len(groups) > 1:
        print_table(*report.comparison(groups))
    for line in report.meanings():
        console.print(escape(line), soft_wrap=True)
    written = ", ".join(str(run / ANALYSES[data]) for run in runs)
    console.print(f"All of it: {escape(written)}. More: docs/metrics.md", soft_wrap=True)
    if terms.differing_terms:
        errors.print(f"These rows do not compete, for they differ in: {', '.join(terms.differing_terms)}.")
