"""``codistill latency``. An ONNX export is run without torch."""

import json
import os
import platform
import sys
from typing import Annotated

import typer

from codistill.cli.shared import NetworkArgument, StudentOption, TrustOption, console, errors, new_app
from codistill.experiments.bench.other_work import OtherWork, disturbs, in_words
from codistill.export.latency import Latency
from codistill.export.latency import latency as measure
from codistill.export.predictor import open_predictor

app = new_app()


@app.command()
def latency(
    network: NetworkArgument,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Images at a time.", show_default="1, and 32")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of one call.", show_default="as many as its runtime takes")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each size of batch.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    student: StudentOption = None,
    trust: TrustOption = False,
) -> None:
    """How long an export, or a student of a run, takes to answer on the CPU of this machine.

    The network alone, one call after another: decoding and resizing of images come on top. To know a device, run it
    there: for an ONNX export that takes no PyTorch.
    """
    predictor = open_predictor(network, student, trust=trust, threads=threads)
    other_work = OtherWork()
    found = [measure(predictor.answer, predictor.image_size, size, seconds) for size in batch or (1, 32)]
    others = other_work.cores()
    if as_json:
        about = {"threads": threads, "cores": os.cpu_count(), "machine": platform.machine(), "other_work_cores": others}
        sys.stdout.write(json.dumps({**about, "latencies": [one._asdict() for one in found]}, indent=2) + "\n")
        return
    taken = "threads as its runtime takes them" if threads is None else f"{threads} thread{'s' * (threads > 1)}"
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, {taken}", soft_wrap=True)
    for one in found:
        console.print(_line(one), soft_wrap=True)
    if disturbs(others):
        words = f"{in_words(others)} meanwhile: a network that has the machine to itself is faster."
        errors.print(f"[yellow]Warning:[/yellow] {words}", soft_wrap=True)


def _line(found: Latency) -> str:
    each = f", {1000 * found.batch / found.median_ms:,.0f} images/s" if found.batch > 1 else ""
    return (
        f"{found.batch} at a time: {found.median_ms:.2f} ms (median of {found.calls:,} calls; "
        f"{found.low_ms:.2f} to {found.high_ms:.2f} for nine of ten){each}"
    )
