"""``codistill predict``. An ONNX export is run without torch."""

import json
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from codistill.cli.shared import NetworkArgument, StudentOption, TrustOption, errors, new_app
from codistill.errors.printable import printable
from codistill.export.paths import image_paths
from codistill.export.predictor import Prediction, open_predictor

app = new_app()


@app.command()
def predict(
    network: NetworkArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Files, folders, quoted patterns; - for paths on stdin.", show_default=False
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="So many classes of each image.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each image.")] = False,
    student: StudentOption = None,
    epoch: Annotated[
        str | None,
        typer.Option(help="Of a run: last, the default, or best, by validation accuracy.", show_default=False),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Classes and probabilities of images, by an export or a student of a run.

    A line for each image, as soon as its batch is known. An image that cannot be read is named on stderr and skipped;
    the exit code is 1 then.
    """
    predictor = open_predictor(network, student, epoch=epoch, trust=trust)
    places = [os.path.expanduser(image) for image in images]  # a quoted pattern comes as it was typed
    skipped = []

    def skip(path: str, why: str) -> None:
        skipped.append(path)
        errors.print(escape(f"{printable(path)}: {why}."), soft_wrap=True)

    for prediction in predictor.predict(image_paths(places, sys.stdin, skip), top, skip):
        sys.stdout.write(_line(prediction, as_json) + "\n")
        sys.stdout.flush()
    if skipped:
        raise typer.Exit(1)


def _line(prediction: Prediction, as_json: bool) -> str:
    if as_json:
        classes = [{"class": name, "probability": probability} for name, probability in prediction.classes]
        return json.dumps({"image": prediction.path, "classes": classes})
    told = ", ".join(f"{printable(name)} {100 * probability:.1f} %" for name, probability in prediction.classes)
    return f"{printable(prediction.path)}: {told}"
