"""``codistill analyse``."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from codistill.cli.shared import console, errors, new_app, print_table
from codistill.errors import UserError
from codistill.errors.printable import printable
from codistill.evaluation.analyse import NotSavedError, analyse_run
from codistill.evaluation.compare.controls import controls_of
from codistill.evaluation.compare.rows import compare
from codistill.evaluation.misclassified import wrong_images
from codistill.evaluation.report import analysis as report
from codistill.storage.run_files import ANALYSES

app = new_app()


class Split(StrEnum):
    """Which images are looked at."""

    test = "test"
    validation = "validation"


@app.command()
def analyse(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.", show_default=False)],
    data: Annotated[Split, typer.Option(help="Which images.")] = Split.test,
    wrong: Annotated[
        bool,
        typer.Option(
            "--wrong",
            help="Print as CSV the images of one run that a student has wrong: where each is, its class, and what "
            "students say of it.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content of every analysis.json.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; any will do.")] = "auto",
) -> None:
    """What the students of runs learned: how rich, how different, how sure, and who knew what first.

    With a run and its control (method=independent, the same seed), images that only the run has right are kept, too.
    """
    if wrong:
        if as_json or len(runs) > 1:
            raise UserError("--wrong prints the images of one run, and nothing else: give one, and no --json.")
        sys.stdout.write(wrong_images(runs[0], data, device))
        return
    terms = compare(runs)  # what is no finished run is refused before the first is analysed
    controls = controls_of(terms)
    found: dict[str, dict[str, Any]] = {}
    unsaved: dict[Path, NotSavedError] = {}
    for run in sorted(runs, key=lambda run: run in controls):  # a control comes before whoever is compared with it
        try:
            found[str(run)] = analyse_run(run, data, device, None if (own := controls.get(run)) in unsaved else own)
        except NotSavedError as error:  # hours may have gone into it: it is shown all the same
            found[str(run)], unsaved[run] = error.found, error
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        _print_tables([report.Group(row, [found[str(run)] for run in row.runs]) for row in terms.rows])
        if written := ", ".join(str(run / ANALYSES[data]) for run in runs if run not in unsaved):
            console.print(f"All of it: {escape(printable(written))}. More: docs/metrics.md", soft_wrap=True)
        if terms.differing_terms:
            errors.print(f"These rows do not compete, for they differ in: {', '.join(terms.differing_terms)}.")
    for why in unsaved.values():
        errors.print(f"[yellow]Warning:[/yellow] {escape(str(why))}", soft_wrap=True)
    if unsaved:
        raise typer.Exit(1)


def _print_tables(groups: list[report.Group]) -> None:
    for group in groups:
        console.print(escape(report.title(group)), soft_wrap=True)
        print_table(*report.voices(group.analyses))
        if (told := report.no_better_than_one_answer(group.analyses)) is not None:
            console.print(escape(told), soft_wrap=True)
        if (weakest := report.weakest_classes(group.analyses)) is not None:
            print_table(*weakest)
        if (pairs := report.pairs(group.analyses)) is not None:
            print_table(*pairs)
        if (first := report.who_was_first(group.analyses)) is not None:
            print_table(*first)
    if len(groups) > 1:
        print_table(*report.comparison(groups))
    for line in report.meanings(groups):
        console.print(escape(line), soft_wrap=True)
