"""``codistill report``."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.shared import console, new_app
from codistill.errors.printable import printable
from codistill.evaluation.report.page import make_page, write_figures, write_page

app = new_app()


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN|FOLDER", help="A run, or a folder of runs.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="The page; else report.html in the folder.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Where figures go; else report/ in the folder.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Make it again and again as long as a run is trained.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Seconds between two looks of --watch.")] = 10,
) -> None:
    """One HTML page about a run or a folder of runs, with its figures as SVG and PNG."""
    out = out or folder / "report.html"
    page = make_page(folder, every if watch else None)
    write_page(page, out)
    if watch and page.training:
        console.print(f"{escape(printable(str(out)))} is made anew every {every} s; Ctrl-C ends that.", soft_wrap=True)
        try:
            while page.training:
                time.sleep(every)
                page = make_page(folder, every)
                write_page(page, out)
        except KeyboardInterrupt:
            page = make_page(folder)  # once more, so that it no longer loads itself
            write_page(page, out)
    count = write_figures(page, figures or folder / "report")
    size = out.stat().st_size / 1e6
    where = figures or folder / "report"
    console.print(
        f"{escape(printable(str(out)))} ({size:.1f} MB); {count} figures in {escape(printable(str(where)))}",
        soft_wrap=True,
    )
