"""``codistill evaluate``."""

from typing import Annotated

import typer

from codistill.cli.accuracy import print_accuracy
from codistill.cli.shared import RunArgument, console, new_app
from codistill.training.evaluate import Accuracy
from codistill.training.restore import evaluate_run

app = new_app()


@app.command()
def evaluate(
    run: RunArgument, device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; any will do.")] = "auto"
) -> None:
    """Measure the test accuracy of a finished run again, from its saved weights."""
    accuracy, summary = evaluate_run(run, device)
    print_accuracy(accuracy)
    if accuracy._asdict() == summary["test_accuracy"]:
        console.print("Equal to the run's summary.")
    else:
        console.print("The run's summary says otherwise:")
        print_accuracy(Accuracy(**summary["test_accuracy"]))
