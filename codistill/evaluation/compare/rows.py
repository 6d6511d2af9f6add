"""Runs side by side, from their files alone: rows of runs that differ only by seed, in blocks of rows that compete."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from codistill.errors import UserError
from codistill.errors.printable import printable
from codistill.evaluation.compare.comparability import (
    LENGTH,
    comparable,
    differing,
    flatten,
    shown,
    terms_of,
    weights_alone,
)
from codistill.storage import run_files

ALONE = "independent"  # the method without teaching: that of all controls
NEAR = 0.1  # costs that differ by no more than this share are equal
_Run = tuple[Path, dict[str, Any], dict[str, Any]]  # its folder, configuration and summary
_TIME = re.compile(r"^\d{4}-\d\d-\d\d_\d{6}_\d{3}_")  # how a run begins that was given no name


class Accuracies(NamedTuple):
    """Test accuracies in percent, one per seed."""

    students: dict[str, list[float]]
    teacher: list[float] | None
    ensemble: list[float] | None

    @property
    def students_mean(self) -> list[float]:
        """The mean over students, per seed."""
        return [statistics.fmean(accuracies) for accuracies in zip(*self.students.values(), strict=True)]


class Cost(NamedTuple):
    """What training took. Lists have an entry per seed; runs of earlier versions do not know all of it."""

    training_only: int  # parameters that leave after training
    seconds: list[float]  # from start to end
    training_seconds: list[float]  # without evaluation and saving
    processor_seconds: list[float]  # the same, of all threads of a CPU; GPUs have none
    images_per_second: list[float]
    passes: float | None  # forward passes of a student in a step; plain training has 1


class Row(NamedTuple):
    """Runs that differ only in their seed, in the order of their seeds."""

    name: str  # the run folders', without the seed
    method: str
    tasks: str
    last: Accuracies  # after the last epoch
    selected: Accuracies | None  # of the epoch that is best on validation images, where runs recorded it
    seeds: list[int]
    cost: Cost
    settings: dict[str, Any]  # what else differs between the rows of this table
    runs: list[Path]
    flat: dict[str, Any]  # the configuration as keys joined by dots, without what is free
    weights_alone: list[dict[str, Any]]  # of the losses that each student would have without teaching

    @property
    def students(self) -> dict[str, list[float]]:
        return self.last.students

    @property
    def epochs(self) -> int | None:
        return self.flat.get("epochs")

    @property
    def plain(self) -> bool:
        """Plain training: neither teaching nor tasks."""
        return self.method == ALONE and self.tasks == "none"

    def passes_over(self, other: "Row") -> float | None:
        """Forward passes of all of training, as a multiple of the other's; None where one is not known."""
        if not self.cost.passes or not other.cost.passes or not self.epochs or not other.epochs:
            return None
        return self.cost.passes * self.epochs / (other.cost.passes * other.epochs)

    def seconds_over(self, other: "Row") -> float | None:
        """The same of seconds of training: of the processor where both know it, for by the wall a run beside others
        takes longer."""
        one, two = self.cost.processor_seconds, other.cost.processor_seconds
        if not one or not two:
            one, two = self.cost.training_seconds, other.cost.training_seconds
        return statistics.fmean(one) / max(statistics.fmean(two), 1e-9) if one and two else None

    def equal_compute(self, other: "Row") -> bool:
        """Whether forward passes are the same but for a tenth, or for part of an epoch; or seconds of training are, and
        passes, if they are known, are no fewer."""
        passes, seconds = self.passes_over(other), self.seconds_over(other)
        if passes is not None and self.epochs and math.ceil(round(self.epochs / passes, 6)) == self.epochs:
            return True
        if passes is not None and passes <= 1 + NEAR:
            return passes >= 1 - NEAR
        return seconds is not None and abs(seconds - 1) <= NEAR


class Block(NamedTuple):
    """Rows on equal terms, and controls of another length. ``terms``: those in which it is another than others."""

    terms: dict[str, Any]
    rows: list[Row]


class Comparison(NamedTuple):
    """Rows in the order in which their first run was given, the same in blocks, and what keeps these apart."""

    rows: list[Row]
    blocks: list[Block]
    differing_terms: list[str]


def compare(runs: Sequence[Path]) -> Comparison:
    """Read and group runs. Raises UserError for a folder that is no finished run, and for the same seed twice."""
    read = [(run, run_files.read_config(run), run_files.read_summary(run)) for run in runs]
    for run, config, summary in read:
        if set(config["students"]) != set(summary["test_accuracy"]["students"]):
            raise UserError(f"'{run}': config.yaml and summary.json name different students. One is of another run.")
    _check_data(read)
    groups: dict[str, list[_Run]] = {}
    for run, config, summary in _with_one_name(read):
        shared = yaml.safe_dump(comparable(config, summary.get("processes", 1)))
        groups.setdefault(shared, []).append((run, config, summary))
    for group in groups.values():
        _check_seeds(group)
    names = _names([[(run, config["seed"]) for run, config, _ in group] for group in groups.values()])
    rows = _with_settings([_row(name, group) for name, group in zip(names, groups.values(), strict=True)])
    return Comparison(rows, *_blocks(rows))


def mean_and_deviation(values: Sequence[float], digits: int = 2) -> str:
    """``71.23 ± 0.45`` (sample standard deviation), or the value alone where there is one."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _blocks(rows: Sequence[Row]) -> tuple[list[Block], list[str]]:
    """Rows on equal terms. Those without teaching also stand with the ones whose control they are, however long they
    trained; by themselves they stand only where there are none."""
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(_key(row), []).append(row)
    taught = {key: [row for row in own if row.method != ALONE] for key, own in places.items()}
    alone = {key: [row for row in own if row.method == ALONE] for key, own in places.items()}
    for key, own in alone.items():
        for row in own:
            joined = [place for place, others in taught.items() if others and _control_elsewhere(row, others)]
            if taught[key]:  # it has a place: it goes elsewhere only as plain training at equal compute
                joined = [place for place in joined if row.plain and any(map(row.equal_compute, taught[place]))]
            for place in joined:
                places[place].append(row)
            if joined and not taught[key]:
                places[key].remove(row)
    places = {key: own for key, own in places.items() if own}
    terms = [terms_of(own[0].flat) for own in places.values()]
    keys = differing(terms)
    return [
        Block({key: of[key] for key in keys if key in of}, _with_settings(own))
        for of, own in zip(terms, places.values(), strict=True)
    ], keys


def _key(row: Row) -> str:
    return str(sorted(terms_of(row.flat).items()))


def _control_elsewhere(row: Row, others: Sequence[Row]) -> bool:
    """Whether ``row``, without teaching, differs from the terms of ``others`` in its length alone, and trained longer,
    or is plain training at equal compute to one of them."""
    between = differing([terms_of(row.flat), terms_of(others[0].flat)])
    if not between or not set(between) <= set(LENGTH):
        return False
    return (row.epochs or 0) > (others[0].epochs or 0) or (row.plain and any(map(row.equal_compute, others)))


def _with_settings(rows: Sequence[Row]) -> list[Row]:
    keys = differing([row.flat for row in rows])
    return [row._replace(settings=shown(row.flat, keys)) for row in rows]


def _row(name: str, group: list[_Run]) -> Row:
    group = sorted(group, key=lambda run: run[2]["seed"])
    config, summaries = group[0][1], [summary for _, _, summary in group]
    flat = flatten(comparable(config, summaries[0].get("processes", 1)))
    last = _accuracies([summary["test_accuracy"] for summary in summaries], config["students"])
    assert last is not None
    passes = summaries[0].get("forward_passes")
    return Row(
        name=name,
        method=config["method"]["name"],
        tasks=flat["tasks"],
        last=last,
        selected=_accuracies([summary.get("test_accuracy_selected") for summary in summaries], config["students"]),
        seeds=[summary["seed"] for summary in summaries],
        cost=Cost(
            training_only=summaries[0]["parameters"]["training_only"],
            seconds=_known(summaries, "seconds"),
            training_seconds=_known(summaries, "training_seconds"),
            processor_seconds=_known(summaries, "processor_seconds"),
            images_per_second=_known(summaries, "images_per_second"),
            passes=statistics.fmean(passes.values()) if passes else None,
        ),
        settings={},
        runs=[run for run, _, _ in group],
        flat=flat,
        weights_alone=weights_alone(config),
    )


def _known(summaries: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [summary[key] for summary in summaries if summary.get(key) is not None]


def _accuracies(tests: Sequence[Mapping[str, Any] | None], students: Mapping[str, str]) -> Accuracies | None:
    """None if one of the runs did not record it."""
    known = [test for test in tests if test is not None]
    if len(known) < len(tests):
        return None
    teacher, ensemble = ([test[key] for test in known] for key in ("teacher", "ensemble"))
    by_name = {name: [test["students"][name] for test in known] for name in students}
    return Accuracies(by_name, None if None in teacher else teacher, None if None in ensemble else ensemble)


def _names(groups: Sequence[Sequence[tuple[Path, int]]]) -> list[str]:
    """A name for each group of (run, seed): what its folders are called without the seed; no two are alike."""
    short = [_name(group) for group in groups]
    above = [printable(group[0][0].resolve().parent.name) for group in groups]
    names = [f"{a}/{name}" if short.count(name) > 1 else name for a, name in zip(above, short, strict=True)]
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _name(group: Sequence[tuple[Path, int]]) -> str:
    folders = [(_TIME.sub("", printable(run.resolve().name)), seed) for run, seed in group]
    stems = [re.sub(rf"[-_.]?seed[-_=]?{seed}$", "", name) or name for name, seed in folders]
    if len(set(stems)) > 1:  # a0, a1 are called a; but resnet20 of seed 0 is no resnet2
        numbered = [re.sub(rf"[-_.]?(?<!\d){seed}$", "", name) or name for name, seed in folders]
        stems = numbered if len(set(numbered)) == 1 else stems
    return ", ".join(dict.fromkeys(stems))


def _with_one_name(runs: Sequence[_Run]) -> list[_Run]:
    """Data whose images are the same in all splits go by the name of the first, however that of others is spelled.

    A run of earlier versions, which knows no fingerprints, has the images of the others that spell it as it does.
    """
    first: dict[str, Any] = {}  # of those with the same images
    stands_for: dict[Any, Any] = {}  # a spelling -> the first one
    for _, config, summary in runs:
        if (images := summary.get("fingerprints")) and "data" in config:
            name = config["data"].get("name")
            stands_for.setdefault(name, first.setdefault(yaml.safe_dump(images), name))
    found = []
    for run, config, summary in runs:
        if "data" in config:
            name = config["data"].get("name")
            images = summary.get("fingerprints")
            name = first[yaml.safe_dump(images)] if images else stands_for.get(name, name)
            config = {**config, "data": {**config["data"], "name": name}}
        found.append((run, config, summary))
    return found


def _check_data(runs: Sequence[_Run]) -> None:
    """What is called the same must be the same; runs of earlier versions know fewer fingerprints of it, or none."""
    seen: dict[tuple[str, str], tuple[Path, Any]] = {}
    for run, config, summary in runs:
        data = {key: value for key, value in config.get("data", {}).items() if key != "cache"}
        known = {"images": summary.get("images"), "training images": summary.get("fingerprint")}
        for split, own in (summary.get("fingerprints") or {}).items():
            known["all training images" if split == "train" else f"{split} images"] = own
        for key, now in known.items():
            if now is not None:
                other, before = seen.setdefault((key, yaml.safe_dump(data)), (run, now))
                if now != before:
                    raise UserError(
                        f"'{other}' and '{run}' have the same settings of data, but not the same {key}: they changed "
                        "in between. Compare runs on the same images."
                    )


def _check_seeds(group: list[_Run]) -> None:
    seen: dict[int, Path] = {}
    for run, config, _ in group:
        if config["seed"] in seen:
            raise UserError(
                f"'{seen[config['seed']]}' and '{run}' are the same run (seed {config['seed']}): a mean over copies "
                "would look more certain than it is. Leave one out."
            )
        seen[config["seed"]] = run
