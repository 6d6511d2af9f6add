"""Do peers pay on these images, in this time? One network alone and the same one with peers, at equal time.

    OUT/versus.json       what was asked for, and how long each run has trained
    OUT/alone-seedN/      a run: the first student's model, method=independent, no task
    OUT/together-seedN/   a run: the configuration as given; one model is for two students

The two runs of a seed take turns, alone and together, together and alone, so that whatever else the machine does hits
both alike. Each turn is a process that goes on with its run and is asked to save when its turn is over. Stopped and
started again, all goes on.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codistill.config.resolve import AUTO
from codistill.config.schema import METHOD, RunConfig, make_config
from codistill.errors import UserError
from codistill.evaluation.compare.predictions import read_right
from codistill.evaluation.compare.statistics import Interval, bootstrap, t_interval
from codistill.experiments.train_process import last_words, start_training, words_to_train
from codistill.export.select import choose_student
from codistill.storage import run_files
from codistill.storage.atomic_io import write_file
from codistill.training.auto import ENOUGH_FOR_PEERS, settle
from codistill.training.build import read_data
from codistill.training.signals import StopRequest

ALONE, TOGETHER = "alone", "together"
POLL_SECONDS = 0.2


class Pace(NamedTuple):
    """How the minutes are divided."""

    turns: int = 4  # of each run, at most
    shortest_turn: float = 60.0  # seconds: to start a turn takes some of them
    least: float = 30.0  # seconds of a run
    verdict: float = 10.0  # seconds of each seed, kept for what comes after training


PACE = Pace()


class Verdict(NamedTuple):
    """Which is better: test accuracies in percent, of the student that validation images choose in each run."""

    alone: list[float]  # by seed
    together: list[float]
    difference: float  # points by which together is better
    interval: Interval | None  # of 95 %; over seeds, or over the test images where there is one seed
    over: str  # what the interval is over, in words
    run: Path  # the run whose student is to be kept
    student: str

    @property
    def winner(self) -> str | None:
        """``together`` or ``alone``; None where the interval holds 0."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return None
        return TOGETHER if self.difference > 0 else ALONE

    @property
    def file(self) -> Path:
        """The weights of the student to keep."""
        return self.run / "students" / f"{self.student}.safetensors"

    def __str__(self) -> str:
        figures = f"{fmean(self.together):.2f} % together, {fmean(self.alone):.2f} % alone"
        headline = {
            TOGETHER: "Training together is better here",
            ALONE: "Training alone is better here",
            None: "No significant difference",
        }[self.winner]
        if self.interval is None:
            return f"{headline}: {figures}, {self.difference:+.2f} points."
        low, high = self.interval
        return f"{headline}: {figures}, {self.difference:+.2f} points (95 % CI {low:+.2f} to {high:+.2f}, {self.over})."


def versus(
    config: RunConfig | Mapping[str, Any],
    out: str | Path,
    *,
    minutes: float = 30.0,
    seeds: int = 1,
    pace: Pace = PACE,
    note: Callable[[str], None] = lambda text: None,
    stop: StopRequest | None = None,
) -> Verdict | None:
    """Train both ways and compare; the runs lie in ``out``. None if ``stop`` was asked before all was trained.

    config: of ``make_config``, or what that takes; its seed is the first. minutes: for all of it, reading the images
    and testing included; each run gets as much. Raises UserError for a configuration that cannot be compared so, for
    too little time, and for a folder in which something else was compared or a run failed.
    """
    began = time.monotonic()
    config, out = config if isinstance(config, RunConfig) else make_config(config), Path(out)
    if not 0 < minutes < math.inf:
        raise UserError(f"minutes={minutes:g} should be a finite number above 0.")
    if config.data.validation == 0:
        raise UserError("versus chooses a student by validation images: set data.validation above 0, such as 0.1.")
    sides = {ALONE: alone(config), TOGETHER: together(config)}
    trials = [
        _Trial(f"{side}-seed{seed}", own.model_copy(update={"seed": seed}), out)
        for seed in range(config.seed, config.seed + seeds)
        for side, own in sides.items()
    ]
    ledger = _Ledger(out, config, minutes, seeds)
    if all(trial.finished for trial in trials):
        return _verdict_of(trials)
    read_data(config)  # decoded and cached before the first turn
    besides = ledger.besides + time.monotonic() - began
    each = (60.0 * minutes - besides - pace.verdict * seeds) / len(trials)
    if not ledger.in_all:
        if each < pace.least:
            enough = (besides + pace.verdict * seeds + pace.least * len(trials)) / 60.0
            raise UserError(
                f"minutes={minutes:g} leave {max(0.0, each):.0f} s for each of {len(trials)} runs. "
                f"Give at least {math.ceil(10 * enough) / 10:g}."
            )
        note(f"Each of {len(trials)} runs gets {each / 60:.1f} minutes, in turns.")
    ledger.besides = besides
    while waiting := [trial for trial in trials if not trial.finished]:
        # Of the first seed that is not done, the run that has trained less; turns make it the other one next.
        pair = [trial for trial in waiting if trial.seed == waiting[0].seed]
        trial = min(pair, key=lambda trial: ledger.used(trial.name))
        turn = max(pace.shortest_turn, each / pace.turns)
        in_all = (60.0 * minutes - ledger.besides - ledger.in_all - pace.verdict * seeds) / len(waiting)
        left = max(1.0, min(each - ledger.used(trial.name), in_all))  # a run that was late costs the last ones
        ledger.add(trial.name, trial.take_turn(left, None if left < 1.5 * turn else turn, stop))
        if stop is not None and stop.number is not None:
            return None
        note(f"{trial.name}: {trial.state()}")
    return _verdict_of(trials)


def alone(config: RunConfig) -> RunConfig:
    """The first student of a configuration, trained plainly, with the same images and recipe."""
    if config.poison is not None:
        raise UserError("versus is about healthy students: leave poison out.")
    keys = config.model_dump(mode="json")
    name, model = next(iter(config.students.items()))
    weights = [key for key in config.weights if fnmatchcase(f"{name}/ce", key)][-1:]  # the last match wins
    factors = {student: factor for student, factor in config.optimizer.lr_factors.items() if student == name}
    return make_config(
        {
            **{key: value for key, value in keys.items() if key != "peers"},
            **{"students": {name: model}, "tasks": "none", "method": "independent"},
            "weights": {key: keys["weights"][key] for key in weights},
            "optimizer": {**keys["optimizer"], "lr_factors": factors},
        }
    )


def together(config: RunConfig) -> RunConfig:
    """The configuration with peers, however short training is: whether they pay is the question."""
    if len(config.students) == 1:
        (name,) = config.students
        raise UserError(
            f"There is no peer to learn with: '{name}' is the only student. Give a model, or two in a list."
        )
    if config.method.name == "independent":
        raise UserError("With method=independent students do not learn from each other. Give another, or none.")
    keys = {key: value for key, value in config.model_dump(mode="json").items() if key != "peers"}
    if config.method.name == AUTO:
        keys["method"] = METHOD
        if config.burn_in == AUTO:
            keys["burn_in"] = settle(config, ENOUGH_FOR_PEERS)[0].burn_in
    return make_config(keys)


def verdict(of_alone: Sequence[Path], of_together: Sequence[Path]) -> Verdict:
    """What finished runs of the same seeds say."""
    accuracies: dict[str, list[float]] = {ALONE: [], TOGETHER: []}
    kept: list[tuple[float, str, Path, str]] = []  # validation accuracy, side, run, student
    gains: NDArray[np.float64] = np.empty(0)  # by image, of the last pair
    for pair in zip(of_alone, of_together, strict=True):
        rights = []
        for side, run in zip((ALONE, TOGETHER), pair, strict=True):
            summary = run_files.read_summary(run)
            student = choose_student(run, "best").name
            accuracies[side].append(summary["test_accuracy"]["students"][student])
            kept.append((summary["validation_accuracy"]["students"][student], side, run, student))
            found = read_right(run, summary["sha256"])
            rights.append(None if found is None else 100.0 * found.students[student])
        gains = np.empty(0) if rights[0] is None or rights[1] is None else rights[1] - rights[0]
    by_seed = [there - here for here, there in zip(accuracies[ALONE], accuracies[TOGETHER], strict=True)]
    several = len(by_seed) > 1
    said = Verdict(
        accuracies[ALONE],
        accuracies[TOGETHER],
        fmean(by_seed),
        t_interval(by_seed) if several else bootstrap(gains),
        f"{len(by_seed)} seeds" if several else f"{len(gains)} test images, one seed",
        Path(),
        "",
    )
    _, _, run, student = max(entry for entry in kept if said.winner in (None, entry[1]))
    return said._replace(run=run, student=student)


def _verdict_of(trials: Sequence["_Trial"]) -> Verdict:
    """Of pairs, alone and together."""
    return verdict([trial.run for trial in trials[::2]], [trial.run for trial in trials[1::2]])


class _Trial:
    """One run, trained in turns."""

    def __init__(self, name: str, config: RunConfig, out: Path) -> None:
        self.name, self.config, self.seed = name, config, config.seed
        self.run, self._recipe, self._log = out / name, out / f"{name}.yaml", out / f"{name}.log"

    @property
    def finished(self) -> bool:
        return (self.run / "summary.json").exists()

    def take_turn(self, left: float, turn: float | None, stop: StopRequest | None) -> float:
        """Train for ``turn`` seconds, or to the end, in a training that has ``left``; returns the seconds it took.

        Raises UserError where training failed.
        """
        began = time.monotonic()
        write_file(self._recipe, self.config.to_yaml().encode())
        words = [*words_to_train(self.run, self._recipe), "--minutes", f"{left / 60.0:.4f}"]
        process = start_training(words, self._log)
        try:
            asked = False
            while process.poll() is None:
                over = turn is not None and time.monotonic() - began > turn
                if not asked and (over or (stop is not None and stop.number is not None)):
                    process.terminate()
                    asked = True
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        if process.returncode and not asked:
            raise UserError(f"Run '{self.run}' failed: {last_words(self._log)} All that it printed: {self._log}")
        return time.monotonic() - began

    def state(self) -> str:
        """``epoch 12 of 40``, or its test accuracy."""
        if self.finished:
            accuracies = run_files.read_summary(self.run)["test_accuracy"]["students"]
            each = ", ".join(f"{name} {percent:.2f} %" for name, percent in accuracies.items())
            return f"finished. Test accuracy: {each}."
        if not (self.run / "metrics.jsonl").exists():
            return "begun."
        records = run_files.read_metrics(self.run)
        return f"epoch {records[-1]['epoch'] if records else 1} of {run_files.read_config(self.run)['epochs']}."


class _Ledger:
    """How long each run has trained, kept on disk after every turn.

    Raises UserError for a folder that holds another comparison.
    """

    def __init__(self, out: Path, config: RunConfig, minutes: float, seeds: int) -> None:
        self._path = out / "versus.json"
        asked = json.loads(json.dumps({"minutes": minutes, "seeds": seeds, "config": config.model_dump(mode="json")}))
        self._kept: dict[str, Any] = {**asked, "besides": 0.0, "seconds": {}}
        if self._path.exists():
            try:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise UserError(f"'{self._path}' is damaged: {error}. Choose another folder.") from error
            if {key: kept.get(key) for key in asked} != asked:
                raise UserError(
                    f"'{out}' holds another comparison: other keys, minutes or seeds. Give those, or another folder."
                )
            self._kept = kept
        elif out.exists() and any(out.iterdir()):
            raise UserError(f"Folder '{out}' is not empty, and holds no comparison. Choose another.")

    @property
    def besides(self) -> float:
        """Seconds that were no training."""
        return float(self._kept["besides"])

    @besides.setter
    def besides(self, seconds: float) -> None:
        self._kept["besides"] = seconds
        self._write()

    def used(self, name: str) -> float:
        """Seconds of the turns that a run has had."""
        return float(self._kept["seconds"].get(name, 0.0))

    @property
    def in_all(self) -> float:
        """Seconds of all turns."""
        return float(sum(self._kept["seconds"].values()))

    def add(self, name: str, seconds: float) -> None:
        self._kept["seconds"][name] = self.used(name) + seconds
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self._path, (json.dumps(self._kept, indent=1) + "\n").encode())
