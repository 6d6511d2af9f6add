"""How much students gained by learning together: a run minus its control, on the same seed.

The control is ``method=independent`` with everything else alike: the same students, tasks, data and training. Where no
such run is at hand, one without tasks will do; the gain is then that of tasks and teaching together, and is said to be.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from codistill import run_files
from codistill.analysis.raw import read_raw
from codistill.errors import UserError
from codistill.report.compare import ALONE
from codistill.report.controls import words_of_weights
from codistill.report.statistics import Interval, bootstrap, t_interval
from codistill.report.terms import comparable, weights_alone

_TEACHING = ("method", "tasks", "weights")  # in which a run and its control differ, besides what is free


class Gain(NamedTuple):
    """Percent points of test accuracy over the control."""

    label: str
    mean: float
    by_seed: list[float]
    interval: Interval | None
    basis: str  # what the interval is over; why there is none
    same_tasks: bool  # whether the control had the tasks
    passes: tuple[float, float] | None  # forward passes of a student in a step, and in one of the control, if known

    @property
    def told(self) -> str:
        """``+2.13 points, 95 % interval 0.40 to 3.86 (3 seeds)``."""
        if self.interval is None:
            return f"{signed(self.mean)} points ({self.basis})"
        low, high = map(signed, self.interval)
        return f"{signed(self.mean)} points, 95 % interval {low} to {high} ({self.basis})"


class Pair(NamedTuple):
    """A finished run and its control."""

    run: Path
    control: Path
    same_tasks: bool


def signed(value: float, digits: int = 2) -> str:
    """With a plus, or a minus as wide as it; nothing has neither."""
    value = round(value, digits) + 0.0
    return f"{value:{'+' if value else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def is_control(config: Mapping[str, Any]) -> bool:
    """Whether students of this run learn alone."""
    return bool(config["method"]["name"] == ALONE)


def find_control(run: Path, others: Sequence[Path]) -> Pair | None:
    """The control of a run among finished ones: with its tasks if there is one, else without tasks."""
    config = run_files.read_config(run)
    if is_control(config):
        return None
    without, terms = None, _terms(run, config)
    for other in others:
        theirs = run_files.read_config(other)
        if is_control(theirs) and _terms(other, theirs) == terms:
            if theirs["tasks"] == config["tasks"] and weights_alone(theirs) == weights_alone(config):
                return Pair(run, other, True)
            if not any(theirs["tasks"]):
                without = without or Pair(run, other, False)
    return without


def command_for_control(run: Path) -> str:
    """What makes the control of a run; weights of losses that it will not have are left out."""
    weights = words_of_weights(run_files.read_config(run))
    config, name = (shlex.quote(str(path)) for path in (run / "config.yaml", f"{run}-alone"))
    return f"codistill train {config} method={ALONE}{weights} run={name}"


def gains(label: str, pairs: Sequence[Pair]) -> dict[str, Gain]:
    """Of runs that differ by seed: the gain of the students' mean ("students' mean"), of each student, the ensemble."""
    summaries = [[run_files.read_summary(run) for run in (pair.run, pair.control)] for pair in pairs]
    tests = [[summary["test_accuracy"] for summary in both] for both in summaries]
    passes = [fmean(of.values()) for summary in summaries[0] if (of := summary.get("forward_passes"))]
    known = (passes[0], passes[1]) if len(passes) == 2 else None
    names = list(tests[0][0]["students"])
    differences = {
        "students' mean": [fmean(a["students"].values()) - fmean(b["students"].values()) for a, b in tests],
        **{name: [a["students"][name] - b["students"][name] for a, b in tests] for name in names},
        "ensemble": [a["ensemble"] - b["ensemble"] for a, b in tests],
    }
    found = {}
    for name, values in differences.items():
        interval, basis = t_interval(values), f"{len(values)} seeds"
        if interval is None:
            members = {"students' mean": names, "ensemble": []}.get(name, [name])
            interval, basis = _over_images(pairs[0], members)
        same_tasks = all(pair.same_tasks for pair in pairs)
        found[name] = Gain(label, fmean(values), values, interval, basis, same_tasks, known)
    return found


def _over_images(pair: Pair, members: Sequence[str]) -> tuple[Interval | None, str]:
    """The interval over test images of one seed, from saved answers."""
    unknown = "one seed, no interval"
    try:
        ours, theirs = (read_raw(run, "test") for run in (pair.run, pair.control))
    except UserError:
        return None, unknown
    if not members or len(ours.labels) != len(theirs.labels) or (ours.labels != theirs.labels).any():
        return None, unknown
    right = [
        sum((raw.logits[name].argmax(axis=1) == raw.labels).astype(float) for name in members) for raw in (ours, theirs)
    ]
    values = 100 * (right[0] - right[1]) / len(members)
    return bootstrap(values), f"one seed; over {len(values):,} test images only"


def _terms(run: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What a run and its control share: seeds are paired."""
    whole = comparable(config, run_files.read_summary(run).get("processes", 1))
    terms = {key: value for key, value in whole.items() if key not in _TEACHING}
    return {**terms, "seed": config["seed"]}
