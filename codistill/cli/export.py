"""``codistill export``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.shared import RunArgument, console, new_app
from codistill.errors.printable import printable
from codistill.export import FORMATS, Export
from codistill.export import export as write
from codistill.export.card import eight_bits

app = new_app()


@app.command()
def export(
    run: RunArgument,
    student: Annotated[
        str, typer.Option(help="A student's name; best, by validation accuracy; ensemble; teacher (or cpm).")
    ] = "best",
    epoch: Annotated[
        str, typer.Option(help="A student's weights after the last epoch, or after the best by validation accuracy.")
    ] = "last",
    to: Annotated[str, typer.Option(help=f"{', '.join(FORMATS)}.")] = "safetensors",
    quantize: Annotated[str | None, typer.Option(help="int8, with --to onnx.", show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder. Default: exports/RUN-STUDENT-FORMAT.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is already there.")] = False,
) -> None:
    """One network of a run for use elsewhere: weights, a PyTorch program or ONNX, checked on the test images.

    The file is read again and compared with the network on every test image; if its answers differ, that is an error.
    'best' is chosen by validation accuracy, never by the test images.
    """
    _print_export(write(run, student, to, epoch=epoch, quantize=quantize, out=out, overwrite=overwrite))


def _print_export(made: Export) -> None:
    facts = made.facts
    accuracy, parity = facts["test_accuracy"], facts["parity"]
    console.print(escape(f"{facts['student']}, {facts['chosen']}; {facts['weights']}."), soft_wrap=True)
    console.print(
        f"Test accuracy of the file {accuracy['exported']:.2f} %, of the network in PyTorch "
        f"{accuracy['pytorch']:.2f} %, in the run's summary {accuracy['run']:.2f} % ({accuracy['images']:,} images).",
        soft_wrap=True,
    )
    if facts["quantized"]:
        compared = f"{eight_bits(facts)} Ranges are those of {facts['calibration_images']:,} training images."
    else:
        compared = (
            f"Logits differ by {parity['largest_difference']:.1e} at most ({parity['allowed_difference']:.1e} allowed)."
        )
    console.print(f"{parity['equal_answers']:.2f} % of the answers are equal. {compared}", soft_wrap=True)
    console.print(
        escape(
            f"{facts['bytes'] / 1e6:,.2f} MB, {facts['parameters']:,} parameters. Export: {printable(str(made.folder))}"
        ),
        soft_wrap=True,
    )
