"""Rounds of timed steps of one configuration, in turn with rounds of another loop that does the same work.

Each loop has a process of its own, so that neither's threads, memory or settings touch the other; only one works at
a time. A ratio is taken round by round, for the machine's speed drifts, and its median is what counts. Other
work on the machine is measured in each round.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from statistics import median
from typing import Any

from codistill.config.schema import RunConfig
from codistill.errors import UserError
from codistill.experiments.bench.other_work import usable_cores
from codistill.experiments.bench.ratio import doubts, first_ratio, spread
from codistill.experiments.bench.worker import PARTS, Round, work

LIBGOMP_SPINS = "300000"  # libgomp's own default
TELLING = 0.25  # seconds: in less the system, which counts in hundredths, tells nothing of other work
LOSS_STEPS = 5  # on which both loops' losses are compared; they also warm up and compile


class Worker:
    """The parent's end of a loop's process."""

    def __init__(self, kind: str, config: RunConfig) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, kind, config), daemon=True)
        self._process.start()
        theirs.close()
        self.device, self.device_type = self._answer()

    def ask(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, arguments))
        return self._answer()

    def close(self) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.kill()

    def _answer(self) -> Any:
        try:
            verdict, answer = self._pipe.recv()
        except EOFError:
            raise UserError(
                "A process of the benchmark ended early; what it said is above. If nothing is, there may not have been "
                "enough memory: lower batch_size."
            ) from None
        if verdict == "error":
            raise UserError(answer)
        return answer


def bench(
    config: RunConfig,
    *,
    against_naive: bool = False,
    rounds: int = 7,
    steps: int = 10,
    load: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Time ``rounds`` x ``steps`` training steps; ``load`` processes keep as many cores busy meanwhile.

    Returns plain data: speeds in images per second (each image counts once), times in milliseconds.
    """
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for kind in ("ours", "naive") if against_naive else ("ours",):
            note(f"Starting: {kind}.")
            with _environment_of(kind):
                workers[kind] = Worker(kind, config)
            stack.callback(workers[kind].close)
        first_losses, start_seconds = {}, {}
        for kind, worker in workers.items():
            began = time.perf_counter()
            first_losses[kind] = worker.ask("losses", LOSS_STEPS)
            start_seconds[kind] = time.perf_counter() - began
        beside = stack.enter_context(_busy_cores(load))
        times: dict[str, list[Round]] = {kind: [] for kind in workers}
        for number in range(rounds):
            for kind, worker in workers.items():
                times[kind].append(worker.ask("round", steps, beside))
            note(f"Round {number + 1} of {rounds}.")
        measured = {
            kind: _figures(config, times[kind], steps)
            | {"step_ms": _milliseconds(worker.ask("parts", steps)), "peak_memory_bytes": worker.ask("memory")}
            | {"first_steps_seconds": round(start_seconds[kind], 2)}
            for kind, worker in workers.items()
        }
        result = {
            **measured["ours"],
            "device": workers["ours"].device,
            "rounds": rounds,
            "steps": steps,
            "busy_processes_beside": load,
            "cores": len(usable_cores()),
        }
    if against_naive:
        result["naive"] = measured["naive"]
        pairs = list(zip(times["ours"], times["naive"], strict=True))
        clock = result["ratio"] = spread([naive.wall / ours.wall for ours, naive in pairs])
        processor = result["cpu_ratio"] = spread([naive.cpu / ours.cpu for ours, naive in pairs])
        result["first_ratio"] = first_ratio(clock, processor, workers["ours"].device_type == "cpu")
        result["doubts"] = doubts(clock, [loop["other_work_cores"] for loop in measured.values()])
        gaps = zip(first_losses["ours"], first_losses["naive"], strict=True)
        result["loss_difference"] = max(abs(ours - naive) / abs(naive) for ours, naive in gaps)
    return result


def time_steps(config: RunConfig, steps: int) -> dict[str, Any]:
    """Time a first step, which warms up and compiles, and ``steps`` more, with the memory that they took."""
    with _environment_of("ours"), closing(Worker("ours", config)) as worker:
        first = worker.ask("round", 1).wall
        measured = worker.ask("round", steps)
        seconds = measured.wall
        return {
            "device": worker.device,
            "steps": steps,
            "first_step_seconds": round(first, 3),
            "step_seconds": round(seconds / steps, 4),
            "images_per_second": round(steps * config.batch_size / seconds, 1),
            "peak_memory_bytes": worker.ask("memory"),
            "other_work_cores": _rounded(measured.others) if seconds > TELLING else None,
        }


def _figures(config: RunConfig, times: list[Round], steps: int) -> dict[str, Any]:
    speeds = [steps * config.batch_size / one.wall for one in times]
    known = [one.others * one.wall for one in times if one.others is not None]
    return {
        "images_per_second": round(median(speeds), 1),
        "images_per_second_range": [round(min(speeds), 1), round(max(speeds), 1)],
        "student_images_per_second": round(median(speeds) * len(config.students), 1),
        "cpu_ms_per_step": round(1000 * median(one.cpu for one in times) / steps, 1),
        # Over all rounds: the system counts in hundredths of a second, of which a round may have few.
        "other_work_cores": _rounded(sum(known) / sum(one.wall for one in times)) if known else None,
    }


def _rounded(cores: float | None) -> float | None:
    return None if cores is None else round(cores, 2)


def _milliseconds(parts: dict[str, float]) -> dict[str, float]:
    return {part: round(1000 * parts[part], 2) for part in PARTS}


@contextmanager
def _environment_of(kind: str) -> Iterator[None]:
    """What a child inherits. For the plain loop idle threads spin as long as OpenMP lets them when nobody says.

    To leave the variable out is not enough: a child imports the command line again, which sets it.
    """
    before = os.environ.get("GOMP_SPINCOUNT")
    if kind == "naive":
        os.environ["GOMP_SPINCOUNT"] = LIBGOMP_SPINS
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("GOMP_SPINCOUNT", None)
        else:
            os.environ["GOMP_SPINCOUNT"] = before


@contextmanager
def _busy_cores(count: int) -> Iterator[list[int]]:
    """Other people's work: processes that compute and wait for nobody. Gives their ids."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield [burner.pid for burner in burners]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
