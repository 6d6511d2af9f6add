"""The control of a row: the same students alone with the same tasks; and which command would make one that is missing.

What a method gains over its control is what teaching adds. A control on the same epochs sees every image as often; one
with the same compute was trained for longer, until it had cost as much as the method.
"""

import json
import math
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean

from codistill import run_files
from codistill.errors import UserError, unknown
from codistill.report.compare import ALONE, Block, Comparison, Row, compare
from codistill.report.terms import kept_alone

NEAR = 0.1  # costs that differ by no more than this share are the same


def reference(row: Row, block: Block, against: str | None = None, *, without_tasks: bool = False) -> Row | None:
    """The row that ``row`` is compared with: the one called ``against``, or its control; None where there is none."""
    if against is not None:
        found = next((other for other in block.rows if other.name == against), None)
    else:
        found = control(row, block, without_tasks=without_tasks)
    return None if found is None or found.name == row.name else found


def control(row: Row, block: Block, *, without_tasks: bool = False) -> Row | None:
    """Students alone with the same tasks: on the same epochs if there are such, else with more.

    without_tasks: where there are none, those without any task will do, on the same epochs; ``same_tasks`` tells.
    """
    alone, epochs = _alone(row, block.rows), block_epochs(block)
    if without_tasks and not alone:
        alone = [other for other in _in_order(row, block.rows) if other.epochs == epochs and _is_plain(other, row)]
    return next((other for other in alone if other.epochs == epochs), next(iter(alone), None))


def controls_of(comparison: Comparison) -> dict[Path, Path]:
    """Each run in which students learned together -> the run of its control, if need be one without tasks."""
    found: dict[Path, Path] = {}
    for block in comparison.blocks:
        for row in block.rows:
            other = reference(row, block, without_tasks=True)
            if other is not None and row.method != ALONE:
                theirs = dict(zip(other.seeds, other.runs, strict=True))
                found |= {run: theirs[seed] for seed, run in zip(row.seeds, row.runs, strict=True) if seed in theirs}
    return found


def alone_among(others: Sequence[Path], run: Path) -> list[Path]:
    """Those of students alone, with the seed and on the terms of ``run``; what does not compare with it is left out."""
    seed, found = run_files.read_config(run)["seed"], list[Path]()
    for other in others:
        with suppress(UserError):  # somebody else's folder is no fault of this run
            config = run_files.read_config(other)
            if (config["method"]["name"], config["seed"]) == (ALONE, seed):
                found += [other] if len(compare([run, *found, other]).blocks) == 1 else []
    return found


def block_epochs(block: Block) -> int | None:
    """The epochs of all rows but those controls that trained longer."""
    return min((row.epochs for row in block.rows if row.epochs is not None), default=None)


def check_reference(against: str, rows: Sequence[Row]) -> None:
    """Raises UserError if no row is called so."""
    if against not in [row.name for row in rows]:
        raise unknown("row", against, [row.name for row in rows])


def role(row: Row, block: Block) -> str:
    """``alone, same epochs``, ``alone, same compute as NAME``, ``alone, 200 epochs``; empty for what is no control."""
    if row.method != ALONE:
        return ""
    if row.epochs == block_epochs(block):
        return "alone, same epochs"
    same = [other.name for other in block.rows if other.method != ALONE and same_compute(row, other)]
    return f"alone, same compute as {', '.join(same)}" if same else f"alone, {row.epochs} epochs"


def same_compute(row: Row, other: Row) -> bool:
    """Forward passes or seconds of training are the same but for a tenth."""
    ratios = (_ratio_of_passes(row, other), _ratio_of_seconds(row, other))
    return same_tasks(row, other) and any(ratio is not None and abs(ratio - 1) <= NEAR for ratio in ratios)


def missing(block: Block) -> list[tuple[str, str]]:
    """For each control that a block lacks, what it is and the command that makes it."""
    lines: dict[tuple[str, str], tuple[str, str]] = {}  # one for each configuration: several rows may want the same
    for row in block.rows:
        if row.method == ALONE:
            continue
        alone = _alone(row, block.rows)
        same_epochs = next((other for other in alone if other.epochs == row.epochs), None)
        if same_epochs is None:
            text = f"No control of '{row.name}' (alone, same epochs)"
            lines.setdefault((str(_task_keys(row)), ""), (text, command_for_control(row)))
        elif row.epochs and not any(same_compute(other, row) for other in alone):
            ratio = _ratio_of_passes(row, same_epochs) or _ratio_of_seconds(row, same_epochs)
            if ratio is not None and ratio > 1 + NEAR:
                epochs = f" epochs={math.ceil(row.epochs * ratio)}"
                text = f"No control of '{row.name}' (alone, same compute: {ratio:.2f} x)"
                lines.setdefault((str(_task_keys(row)), epochs), (text, command_for_control(row, epochs)))
    return list(lines.values())


def command_for_control(row: Row, epochs: str = "") -> str:
    """What makes the control of a row, with all its seeds; weights of losses that it will not have are left out."""
    run = row.runs[0]
    config = run_files.read_config(run)
    kept = kept_alone(config)
    weights = "" if kept == config.get("weights", {}) else f" {shlex.quote(f'weights={json.dumps(kept)}')}"
    name = str(run.parent / re.sub(r"[^\w.+-]+", "_", f"{row.name}_alone{epochs}"))
    several = len(row.seeds) > 1
    seed = "$seed" if several else str(row.seeds[0])
    command = f"codistill train {shlex.quote(str(run / 'config.yaml'))} method={ALONE}{weights}{epochs} "
    command += f"seed={seed} run={shlex.quote(name)}-seed{seed}"
    return f"for seed in {' '.join(map(str, row.seeds))}; do {command}; done" if several else command


def _alone(row: Row, rows: Sequence[Row]) -> list[Row]:
    return [other for other in _in_order(row, rows) if same_tasks(other, row)]


def _in_order(row: Row, rows: Sequence[Row]) -> list[Row]:
    """Students alone with a seed in common, for differences are paired; those in the same order of images first, for
    some methods have an order of their own, and no control in it."""
    alone = [other for other in rows if other.method == ALONE and not set(other.seeds).isdisjoint(row.seeds)]
    return sorted(alone, key=lambda other: other.flat.get("order") != row.flat.get("order"))


def same_tasks(row: Row, other: Row) -> bool:
    return _task_keys(row) == _task_keys(other)


def _is_plain(row: Row, other: Row) -> bool:
    """Without tasks, and with the cross-entropy of the other."""
    ours, theirs = ([weights["ce"] for weights in own.weights_alone] for own in (row, other))
    return row.tasks == "none" and ours == theirs


def _task_keys(row: Row) -> dict[str, object]:
    """The tasks, their settings, and what they weigh beside the cross-entropy."""
    own = {key: value for key, value in row.flat.items() if key == "tasks" or key.startswith("task.")}
    return {**own, "weights": row.weights_alone}


def _ratio_of_passes(row: Row, other: Row) -> float | None:
    if not row.cost.passes or not other.cost.passes or not row.epochs or not other.epochs:
        return None
    return row.cost.passes * row.epochs / (other.cost.passes * other.epochs)


def _ratio_of_seconds(row: Row, other: Row) -> float | None:
    """Of the processor where both runs know it: by the wall, a run beside others takes longer."""
    one, two = row.cost.processor_seconds, other.cost.processor_seconds
    if not one or not two:
        one, two = row.cost.training_seconds, other.cost.training_seconds
    return fmean(one) / max(fmean(two), 1e-9) if one and two else None
