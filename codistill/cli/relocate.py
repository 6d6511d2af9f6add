"""``codistill relocate``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.shared import console, new_app
from codistill.errors.printable import printable
from codistill.training.display import choose_display
from codistill.training.update_data_path import relocate as tell

app = new_app()


@app.command()
def relocate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    data: Annotated[str, typer.Option(help="Where their data lie now: what data.name holds.", show_default=False)],
) -> None:
    """Tell runs where their data moved to, so that they can be resumed, evaluated and exported again.

    It must be the same images in the same splits, which is looked at. Only config.yaml is changed.
    """
    for run in runs:
        with choose_display(console) as display:
            tell(run, data, display)
        console.print(escape(f"{printable(str(run))}: its data is '{printable(data)}'."), soft_wrap=True)
