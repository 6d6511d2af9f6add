"""``codistill plan``."""

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape

from codistill.cli.shared import ConfigArguments, console, errors, new_app, print_table, recipe_and_keys
from codistill.config.recipe import load_config
from codistill.errors import UserError
from codistill.errors.counted import counted
from codistill.experiments.bench.bench import time_steps
from codistill.experiments.bench.other_work import disturbs, in_words
from codistill.experiments.cost import Plan, build_to_plan, describe
from codistill.models import Model
from codistill.training.display import choose_display

TIMED_STEPS = 3
STUDENT = ["student", "model", "parameters", "MFLOPs a pass", "stages", "embedding", "passes", "views"]
TASK = ["task", "parts", "parameters", "MFLOPs", "passes", "views"]
TEACHER = ["lesson", "teacher", "parameters", "MFLOPs", "views"]

app = new_app()


@app.command()
def plan(
    arguments: ConfigArguments = None,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Run a few real steps, to measure speed and peak memory.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, with the configuration.")] = False,
) -> None:
    """What a training run would cost, before it starts: sizes, passes, memory and time.

    FLOPs are those of the forward pass for one image, a multiply-add counting as two. Time and peak memory are measured
    on the device that would train, over a few steps in a process of their own: on a GPU the memory of tensors, on a CPU
    that of the process. data=synthetic needs no images.
    """
    config = load_config(*recipe_and_keys(arguments))
    with choose_display(errors) as display:
        experiment = build_to_plan(config, display.decoding)
        found, config = describe(experiment), experiment.config
    measured, failed = None, None
    try:
        measured = time_steps(config, TIMED_STEPS) if timing else None
    except UserError as error:  # it may not fit: what is computed tells how much it would be
        failed = error
    if as_json and failed is None:
        written = {**asdict(found), "measured": measured, "config": config.model_dump(mode="json")}
        sys.stdout.write(json.dumps(written, indent=2) + "\n")
    elif not as_json:
        _print_whole(found, measured)
        _print_parts(found)
    if failed is not None:
        raise failed


def _told(model: Model) -> str:
    """A model as it was written, without the long digest of the file that it begins with."""
    return str({key: value for key, value in model.items() if key != "sha256"} if isinstance(model, dict) else model)


def _print_whole(found: Plan, measured: dict[str, Any] | None) -> None:
    """What one wants to know first: how long it takes, how much memory, how much it computes."""
    lines = [found.data, found.choice, _time(found, measured), _memory(found, measured), _cost(found)]
    console.print(escape("\n".join(filter(None, lines))), soft_wrap=True)
    if measured is not None and disturbs(others := measured["other_work_cores"]):
        errors.print(
            f"[yellow]Warning:[/yellow] {in_words(others)} meanwhile: steps that have the machine to themselves are "
            "faster.",
            soft_wrap=True,
        )
    for warning in found.warnings:
        console.print(f"[yellow]Warning:[/yellow] {escape(warning)}", soft_wrap=True)


def _time(found: Plan, measured: dict[str, Any] | None) -> str:
    epochs = counted(found.epochs, "epoch")
    if measured is None:
        return f"Time: not measured; {epochs}."
    epoch = measured["step_seconds"] * found.steps_per_epoch
    # In burn-in one pass stands for all.
    saved = found.burn_in * (1.0 - 1.0 / sum(student.passes for student in found.students.values()))
    whole = _duration(epoch * found.epochs * (1.0 - saved))
    before = f", about {saved:.0%} less for burn-in" if saved else ""
    return (
        f"Time: {whole} in {epochs} of {_duration(epoch)} each{before}, without evaluation; "
        f"{measured['images_per_second']:,.0f} images/s over {measured['steps']} steps on {measured['device']}, "
        f"the first step {measured['first_step_seconds']:.1f} s."
    )


def _memory(found: Plan, measured: dict[str, Any] | None) -> str:
    memory = found.memory
    peak = f"{_megabytes(measured['peak_memory_bytes'])} at the peak, measured; " if measured is not None else ""
    return (
        f"Memory: {peak}{_megabytes(memory.total)} at least, computed (weights {_megabytes(memory.weights)}, gradients "
        f"{_megabytes(memory.gradients)}, momentum {_megabytes(memory.momentum)}, kept for the backward pass "
        f"{_megabytes(memory.kept)}, images {_megabytes(memory.images)}), if nothing is compiled; the program and "
        "working space come on top."
    )


def _cost(found: Plan) -> str:
    plain = sum(student.flops for student in found.students.values())
    return (
        f"Cost: {found.steps_per_epoch * found.epochs:,} steps of {found.batch_size} images, {found.steps_per_epoch:,} "
        f"an epoch; a forward pass of {_millions(found.flops)} MFLOPs an image, {found.flops / plain:.2f}x the "
        f"students' on upright images alone. For training only: {found.training_only_parameters:,} parameters "
        f"({found.training_only_share:.2f}x the students')."
    )


def _print_parts(found: Plan) -> None:
    """Students, tasks and teachers, each in a table."""
    students, tasks, teachers = [], [], []
    for name, student in found.students.items():
        stages = " ".join("x".join(map(str, stage)) for stage in student.shape.feature_maps)
        row = [name, _told(student.model), f"{student.parameters:,}", _millions(student.flops), stages]
        students.append([*row, f"{student.shape.embedding}", f"{student.passes:g}", _views(student.views)])
        for key, task in student.tasks.items():
            heads = ", ".join(f"{head} {count:,}" for head, count in task.heads.items())
            row = [f"{name}/{key}", heads, f"{task.parameters:,}", _millions(task.flops), f"{task.passes:g}"]
            tasks.append([*row, _views(dict.fromkeys(task.views, task.fraction))])
    for name, teacher in found.teachers.items():
        if teacher.parameters or teacher.flops:
            row = [name, teacher.kind, f"{teacher.parameters:,}", _millions(teacher.flops)]
            teachers.append([*row, " ".join(teacher.views)])
    print_table(STUDENT, students)
    for header, rows in ((TASK, tasks), (TEACHER, teachers)):
        if rows:
            print_table(header, rows)


def _views(views: dict[str, float]) -> str:
    """``clean rot90``; a view on a part of the batch with its fraction, ``rot90 (0.25)``."""
    return " ".join(view if fraction == 1.0 else f"{view} ({fraction:g})" for view, fraction in views.items())


def _millions(flops: int) -> str:
    return f"{flops / 1e6:,.2f}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``17 min`` or ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
