"""The control of a row: the same students alone with the same tasks; and which command would make one that is missing.

What a method gains over its control is what teaching adds. A control on the same epochs sees every image as often; one
with the same compute was trained for longer, until it had cost as much as the method.
"""

import json
import math
import re
import shlex
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from codistill import run_files
from codistill.errors import unknown
from codistill.report.compare import ALONE, Block, Row
from codistill.report.terms import kept_alone

NEAR = 0.1  # costs that differ by no more than this share are the same


def reference(row: Row, block: Block, against: str | None = None) -> Row | None:
    """The row that ``row`` is compared with: the one called ``against``, or its control; None where there is none."""
    if against is not None:
        found = next((other for other in block.rows if other.name == against), None)
    else:
        found = control(row, block)
    return None if found is None or found.name == row.name else found


def control(row: Row, block: Block) -> Row | None:
    """Students alone with the same tasks: on the same epochs if there are such, else with more."""
    alone = _alone(row, block.rows)
    return next((other for other in alone if other.epochs == block_epochs(block)), next(iter(alone), None))


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
    return _same_tasks(row, other) and any(ratio is not None and abs(ratio - 1) <= NEAR for ratio in ratios)


def missing(block: Block) -> list[str]:
    """For each control that a block lacks, what it is and the command that makes it."""
    lines: dict[tuple[str, str], str] = {}  # one for each configuration: several rows may want the same
    for row in block.rows:
        if row.method == ALONE:
            continue
        alone = _alone(row, block.rows)
        same_epochs = next((other for other in alone if other.epochs == row.epochs), None)
        if same_epochs is None:
            command = _command(row, "")
            lines.setdefault((str(_task_keys(row)), ""), f"No control of '{row.name}' (alone, same epochs): {command}")
        elif row.epochs and not any(same_compute(other, row) for other in alone):
            ratio = _ratio_of_passes(row, same_epochs) or _ratio_of_seconds(row, same_epochs)
            if ratio is not None and ratio > 1 + NEAR:
                epochs = f" epochs={math.ceil(row.epochs * ratio)}"
                text = f"No control of '{row.name}' (alone, same compute: {ratio:.2f} x): {_command(row, epochs)}"
                lines.setdefault((str(_task_keys(row)), epochs), text)
    return list(lines.values())


def _command(row: Row, epochs: str) -> str:
    run = row.runs[0]
    weights = words_of_weights(run_files.read_config(run))
    name = str(run.parent / re.sub(r"[^\w.+-]+", "_", f"{row.name}_alone{epochs}"))
    several = len(row.seeds) > 1
    seed = "$seed" if several else str(row.seeds[0])
    command = f"codistill train {shlex.quote(str(run / 'config.yaml'))} method={ALONE}{weights}{epochs} "
    command += f"seed={seed} run={shlex.quote(name)}-seed{seed}"
    return f"for seed in {' '.join(map(str, row.seeds))}; do {command}; done" if several else command


def words_of_weights(config: dict[str, Any]) -> str:
    """What the command of a control says of ``weights``: those of losses that it has not are left out."""
    kept = kept_alone(config)
    return "" if kept == config.get("weights", {}) else f" {shlex.quote(f'weights={json.dumps(kept)}')}"


def _alone(row: Row, rows: Sequence[Row]) -> list[Row]:
    """Those in the same order of images first: some methods have an order of their own, and no control in it."""
    alone = [other for other in rows if other.method == ALONE and _same_tasks(other, row)]
    return sorted(alone, key=lambda other: other.flat.get("order") != row.flat.get("order"))


def _same_tasks(row: Row, other: Row) -> bool:
    return _task_keys(row) == _task_keys(other)


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
