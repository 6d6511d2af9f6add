"""What a row is compared with: its two controls, or the row that was asked for; and which command makes a control.

- *Without teaching*: the same students with the same tasks. The difference is what teaching adds.
- *Plain, at equal compute*: the same students with neither teaching nor tasks, trained for so many epochs that they
  made as many forward passes. The difference says whether it was worth it.
"""

import json
import math
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from codistill.errors import UserError, unknown
from codistill.errors.counted import counted
from codistill.evaluation.compare.comparability import OF_METHOD, REPLANNED, differing, kept_alone, terms_of
from codistill.evaluation.compare.rows import ALONE, NEAR, Block, Comparison, Row, compare
from codistill.storage import run_files

WITHOUT_TEACHING, PLAIN = "without teaching", "plain"
EQUAL = f"{PLAIN}, at equal compute"
MOST_NAMES = 3  # of rows, in what a control is


class Reference(NamedTuple):
    """A row that another is compared with."""

    row: Row
    kinds: tuple[str, ...]  # WITHOUT_TEACHING, PLAIN or both; none of them where it was asked for by name
    label: str  # ``plain, at equal compute``; empty where it was asked for by name
    differs: tuple[str, ...] = ()  # terms in which the two do not compete


def references(row: Row, block: Block, against: Row | None = None) -> list[Reference]:
    """``against``, also of another block, if given; else the controls of ``row`` that are in its block."""
    if against is not None:
        differs = tuple(differing([terms_of(row.flat), terms_of(against.flat)]))
        return [] if against.name == row.name else [Reference(against, (), "", differs)]
    taught, plain = without_teaching(row, block), plain_training(row, block)
    if taught is not None and plain is not None and taught.name == plain.name:
        return [Reference(plain, (WITHOUT_TEACHING, PLAIN), label(plain, row))]
    found = [Reference(taught, (WITHOUT_TEACHING,), _with_epochs(taught, row))] if taught is not None else []
    return found + ([Reference(plain, (PLAIN,), label(plain, row))] if plain is not None else [])


def without_teaching(row: Row, block: Block) -> Row | None:
    """The same students with the same tasks: on the same epochs if there are such, else the nearest."""
    if row.method == ALONE:
        return None
    alone = [other for other in _in_order(row, block.rows) if same_tasks(other, row)]
    return min(alone, key=lambda other: abs((other.epochs or 0) - (row.epochs or 0)), default=None)


def plain_training(row: Row, block: Block) -> Row | None:
    """The same students with neither teaching nor tasks: at equal compute if there are such, else the nearest."""
    plain = [other for other in _in_order(row, block.rows) if other.name != row.name and _is_plain(other, row)]
    if row.plain:  # one that trained for another length is not its control
        return None

    def distance(other: Row) -> tuple[bool, float, int]:
        passes = row.passes_over(other) or row.seconds_over(other)
        far = math.inf if passes is None else abs(math.log(max(passes, 1e-9)))
        return (not other.equal_compute(row), far, abs((other.epochs or 0) - (row.epochs or 0)))

    return min(plain, key=distance, default=None)


def label(control: Row, row: Row) -> str:
    """What a control of ``row`` is: ``without teaching``, ``plain, at equal compute``, ``plain, 30 epochs``."""
    if not control.plain:
        return _with_epochs(control, row)
    if control.equal_compute(row):
        return EQUAL
    return f"{PLAIN}, {'same epochs' if control.epochs == row.epochs else length_of(control)}"


def length_of(row: Row) -> str:
    """``30 epochs``."""
    return "unknown epochs" if row.epochs is None else counted(row.epochs, "epoch")


def _with_epochs(control: Row, row: Row) -> str:
    if control.epochs == row.epochs:
        return WITHOUT_TEACHING
    length = "at equal compute" if control.equal_compute(row) else length_of(control)
    return f"{WITHOUT_TEACHING}, {length}"


def controls_of(comparison: Comparison, kind: str = WITHOUT_TEACHING) -> dict[Path, Path]:
    """Each run with teaching -> the run of its control of this kind; or else in plain training."""
    found: dict[Path, Path] = {}
    for block in comparison.blocks:
        for row in block.rows:
            own = references(row, block) if row.method != ALONE else []
            chosen = [one for one in own if kind in one.kinds] or (own if kind == WITHOUT_TEACHING else [])
            for one in chosen[:1]:
                theirs = dict(zip(one.row.seeds, one.row.runs, strict=True))
                found |= {run: theirs[seed] for seed, run in zip(row.seeds, row.runs, strict=True) if seed in theirs}
    return found


def alone_among(others: Sequence[Path], run: Path) -> list[Path]:
    """Those without teaching, with the seed and on the terms of ``run``; what does not compare with it is left out."""
    seed, found = run_files.read_config(run)["seed"], list[Path]()
    for other in others:
        with suppress(UserError):  # what else lies there is no fault of this run
            config = run_files.read_config(other)
            if (config["method"]["name"], config["seed"]) == (ALONE, seed):
                found += [other] if len(compare([run, *found, other]).blocks) == 1 else []
    return found


def find_row(name: str, rows: Sequence[Row]) -> Row:
    """The row that is called so. Raises UserError if there is none."""
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        raise unknown("row", name, [row.name for row in rows])
    return found


def role(row: Row, block: Block) -> str:
    """``without teaching``, ``plain, at equal compute to NAME``, ``plain, 30 epochs``; empty for what is no control."""
    if row.method != ALONE:
        return ""
    taught = [other for other in block.rows if other.method != ALONE]
    own = [other for other in taught if row.plain or same_tasks(row, other)] or taught
    kinds = list(dict.fromkeys(label(row, other) for other in own)) or [PLAIN if row.plain else WITHOUT_TEACHING]
    equal = [other.name for other in own if row.plain and row.equal_compute(other)]
    if len(kinds) > 1 and equal:
        return f"{EQUAL} to {', '.join(equal) if len(equal) <= MOST_NAMES else f'{len(equal)} rows'}"
    return kinds[0]


def missing(block: Block) -> list[tuple[str, str]]:
    """For each control that a block lacks, what it is and the command that makes it."""
    lines: dict[str, tuple[str, int | None, list[Row]]] = {}  # one for each configuration: several rows may want it
    for row in block.rows:
        if row.method == ALONE:
            continue
        plain, epochs = plain_training(row, block), plain_epochs(row, block)
        both = row.tasks == "none" and epochs == row.epochs  # plain training is the control without teaching, too
        if without_teaching(row, block) is None and not both:
            lines.setdefault(f"{_task_keys(row)}", (WITHOUT_TEACHING, None, []))[2].append(row)
        if epochs is not None and (plain is None or not (plain.equal_compute(row) or plain.epochs == epochs)):
            how = f"at equal compute: {counted(epochs, 'epoch')}"
            if not row.cost.passes and plain is None:
                how = "same epochs; compute is not known"
            ce = [weights["ce"] for weights in row.weights_alone]
            lines.setdefault(f"{PLAIN} {ce} {epochs}", (f"{PLAIN}, {how}", epochs, []))[2].append(row)
    return [
        (f"No control of {', '.join(repr(row.name) for row in rows)} ({what})", command_for_control(rows, epochs))
        for what, epochs, rows in lines.values()
    ]


def plain_epochs(row: Row, block: Block) -> int | None:
    """For how many epochs plain training makes as many forward passes as ``row``, or takes as many seconds."""
    if row.epochs is None:
        return None
    if row.cost.passes:  # a step of plain training makes one
        return math.ceil(round(row.epochs * row.cost.passes, 6))
    plain = plain_training(row, block)
    seconds = row.seconds_over(plain) if plain is not None else None
    if plain is None or seconds is None or abs(seconds - 1) <= NEAR:
        return plain.epochs if plain is not None else row.epochs
    return math.ceil(round((plain.epochs or row.epochs) * seconds, 6))


def command_for_control(rows: Sequence[Row], plain_for: int | None = None) -> str:
    """What makes a control of ``rows``, with all their seeds; weights of losses that it will not have are left out.

    plain_for: the epochs of plain training; None for the control without teaching.
    """
    row = rows[0]
    run, seeds = row.runs[0], sorted({seed for own in rows for seed in own.seeds})
    config = run_files.read_config(run)
    words = [f"method={ALONE}"]
    if plain_for is not None and row.tasks != "none":
        words.append("tasks=none")
    if plain_for is not None and config.get("burn_in"):
        words += ["burn_in=0", f"{OF_METHOD}=null"]
    kept = kept_alone(config, tasks=plain_for is None)
    if kept != config.get("weights", {}):
        words.append(f"weights={json.dumps(kept)}")
    if plain_for is not None and plain_for != row.epochs:
        words.append(f"epochs={plain_for}")
        words += [f"{REPLANNED}=[]"] if config.get(REPLANNED) else []
    stem = re.sub(r"[^\w.+-]+", "_", f"{row.name}_{'alone' if plain_for is None else PLAIN}")
    if (run.parent / f"{stem}-seed{seeds[0]}").exists():  # for other epochs, or of another row
        stem += f"_{plain_for or row.epochs}_epochs"
    name, seed = str(run.parent / stem), "$seed" if len(seeds) > 1 else str(seeds[0])
    command = f"{shlex.join(['codistill', 'train', str(run / 'config.yaml'), *words])} "
    command += f"seed={seed} run={shlex.quote(name)}-seed{seed}"
    return f"for seed in {' '.join(map(str, seeds))}; do {command}; done" if len(seeds) > 1 else command


def _in_order(row: Row, rows: Sequence[Row]) -> list[Row]:
    """Without teaching and with a seed in common, for differences are paired; those in the same order of images first,
    for some methods have an order of their own, and no control in it."""
    alone = [other for other in rows if other.method == ALONE and not set(other.seeds).isdisjoint(row.seeds)]
    return sorted(alone, key=lambda other: other.flat.get("order") != row.flat.get("order"))


def same_tasks(row: Row, other: Row) -> bool:
    return _task_keys(row) == _task_keys(other)


def _is_plain(row: Row, other: Row) -> bool:
    """Plain training with the cross-entropy of the other."""
    ours, theirs = ([weights["ce"] for weights in own.weights_alone] for own in (row, other))
    return row.plain and ours == theirs


def _task_keys(row: Row) -> dict[str, object]:
    """The tasks, their settings, and what they weigh beside the cross-entropy."""
    own = {key: value for key, value in row.flat.items() if key == "tasks" or key.startswith("task.")}
    return {**own, "weights": row.weights_alone}
