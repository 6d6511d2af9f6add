"""``codistill bench``."""

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from codistill.cli.shared import ConfigArguments, console, errors, new_app, recipe_and_keys
from codistill.config.recipe import load_config
from codistill.experiments.bench.bench import bench as measure
from codistill.experiments.bench.other_work import in_words
from codistill.experiments.bench.ratio import ratio_in_words

app = new_app()


class Against(StrEnum):
    """What ``bench`` compares with."""

    naive = "naive"


@app.command()
def bench(
    arguments: ConfigArguments = None,
    against: Annotated[
        Against | None, typer.Option(help="Time this loop too, round by round in turn.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds; medians are taken over them.")] = 7,
    steps: Annotated[int, typer.Option(min=1, help="Training steps in a round.")] = 10,
    load: Annotated[int, typer.Option(min=0, help="Processes that keep cores busy beside, as neighbours do.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, with the configuration.")] = False,
) -> None:
    """Images per second, time of each part of a step, and memory, of any configuration on this machine.

    'naive' is the loop that one writes first, doing the same work with the same networks: NCHW memory, fp32, eager,
    one student after the other, PIL augmentation in a DataLoader. data=synthetic needs no images.
    """
    config = load_config(*recipe_and_keys(arguments))
    note = (lambda text: None) if as_json else (lambda text: errors.print(text, style="dim"))
    result = measure(config, against_naive=against is not None, rounds=rounds, steps=steps, load=load, note=note)
    if as_json:
        sys.stdout.write(json.dumps({**result, "config": config.model_dump(mode="json")}, indent=2) + "\n")
    else:
        _print_bench(result)


def _print_bench(result: Mapping[str, Any]) -> None:
    loops = {"codistill": result, **({"plain loop": result["naive"]} if "naive" in result else {})}
    table = Table("", *loops)
    table.add_row("images/s", *(f"{loop['images_per_second']:,.0f}" for loop in loops.values()))
    ranges = [" to ".join(f"{speed:,.0f}" for speed in loop["images_per_second_range"]) for loop in loops.values()]
    table.add_row("  slowest and fastest round", *ranges)
    table.add_row("images/s x students", *(f"{loop['student_images_per_second']:,.0f}" for loop in loops.values()))
    for part in result["step_ms"]:
        table.add_row(f"{part}, ms", *(f"{loop['step_ms'][part]:,.1f}" for loop in loops.values()))
    table.add_row("processor time of a step, ms", *(f"{loop['cpu_ms_per_step']:,.0f}" for loop in loops.values()))
    table.add_row("peak memory, MB", *(f"{loop['peak_memory_bytes'] / 1e6:,.0f}" for loop in loops.values()))
    starts = [f"{loop['first_steps_seconds']:.1f}" for loop in loops.values()]
    table.add_row("first 5 steps, compiling included, s", *starts)
    table.add_row("cores busy with other work", *(_cores(loop["other_work_cores"]) for loop in loops.values()))
    console.print(table)
    if "ratio" in result:
        console.print(f"[bold]{ratio_in_words(result)}[/bold]", soft_wrap=True)
    if result.get("doubts"):
        errors.print(
            f"[yellow]Warning:[/yellow] the clock's ratio is not meaningful: {'; '.join(result['doubts'])}. Time again "
            "when nothing else runs; waiting threads spin, so other work changes processor time, too.",
            soft_wrap=True,
        )
    beside = result["busy_processes_beside"]
    console.print(
        f"{result['device']}; {result['rounds']} rounds of {result['steps']} steps; "
        f"{in_words(result['other_work_cores'])}{f', {beside} more were kept busy on purpose' if beside else ''}.",
        soft_wrap=True,
    )


def _cores(count: float | None) -> str:
    return "not known" if count is None else f"{count:.1f}"
