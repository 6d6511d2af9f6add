"""A loop in a process of its own, which does as it is told: losses of given steps, or rounds of timed ones."""

import signal
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from codistill.config.schema import RunConfig
from codistill.core.batch import Batch
from codistill.data.images import normalise
from codistill.errors import UserError
from codistill.experiments.bench.loops import LOOPS, Loop
from codistill.experiments.bench.other_work import OtherWork
from codistill.training.error_hints import Uncompilable
from codistill.training.error_hints_memory import lacks_memory

PARTS = ("input", "forward", "backward", "optimizer")


def work(pipe: Connection, kind: str, config: RunConfig) -> None:
    """Build the loop, then answer each ``(name, arguments)`` until the other end closes.

    An answer is ``("done", result)``, or ``("error", text)`` for what the user can mend, a lack of memory included.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes the pipe
    try:
        loop = LOOPS[kind](config)
        loop.experiment.cohort.train()
        batches = loop.batches()
        runtime = loop.experiment.runtime
        pipe.send(("done", (runtime.describe(), runtime.device.type)))
        while True:
            name, arguments = pipe.recv()
            if name == "losses":
                answer: Any = losses(loop, *arguments)
            elif name == "round":
                answer = timed_round(loop, batches, *arguments)
            elif name == "parts":
                answer = timed_parts(loop, batches, *arguments)
            else:
                answer = loop.experiment.runtime.peak_memory_bytes()
            pipe.send(("done", answer))
    except EOFError:
        return
    except UserError as error:
        pipe.send(("error", str(error)))
    except Uncompilable as error:
        pipe.send(("error", f"{error.headline}: {error} Set compile=false."))
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        pipe.send(("error", f"A step with batch_size={config.batch_size} does not fit into memory. Lower it."))


def losses(loop: Loop, steps: int) -> list[float]:
    """The loss before each of the first steps, on images as they are: what all loops should agree on."""
    experiment = loop.experiment
    device, size = experiment.runtime.device, experiment.config.batch_size
    mean, std = (torch.tensor(experiment.facts[name], device=device) for name in ("mean", "std"))
    draws = torch.randint(0, 2**31 - 1, (size,), generator=torch.Generator().manual_seed(0)).to(device)
    found = []
    for number in range(steps):
        rows = torch.arange(number * size, (number + 1) * size) % len(experiment.train_images)
        images = normalise(experiment.train_images.pixels[rows].to(device).permute(0, 3, 1, 2), mean, std)
        extra = (images,) * (experiment.cohort.augmentations - 1)
        loss = loop.forward(Batch(images, experiment.train_images.labels[rows].to(device), extra, draws))
        loop.backward(loss)
        loop.update()
        found.append(loss.item())
    return found


class Round(NamedTuple):
    """Of some steps: seconds by the clock, and of all this process's threads; cores that others kept busy."""

    wall: float
    cpu: float
    others: float | None  # None where it is not known


def timed_round(loop: Loop, batches: Iterator[Batch], steps: int, besides: Sequence[int] = ()) -> Round:
    """Time some steps. besides: processes that keep cores busy on purpose."""
    synchronise = loop.experiment.runtime.synchronise
    synchronise()
    other_work = OtherWork(besides)
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in islice(batches, steps):
        loop.backward(loop.forward(batch))
        loop.update()
    synchronise()
    return Round(time.perf_counter() - wall, time.process_time() - cpu, other_work.cores())


def timed_parts(loop: Loop, batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """Seconds of each part of a step, on average. On a GPU, to wait after each part costs time of its own."""
    seconds = dict.fromkeys(PARTS, 0.0)
    began = 0.0

    def lap(part: str) -> None:
        nonlocal began
        loop.experiment.runtime.synchronise()
        now = time.perf_counter()
        seconds[part] += (now - began) / steps
        began = now

    loop.experiment.runtime.synchronise()
    began = time.perf_counter()
    for _ in range(steps):
        batch = next(batches)
        lap("input")
        loss = loop.forward(batch)
        lap("forward")
        loop.backward(loss)
        lap("backward")
        loop.update()
        lap("optimizer")
    return seconds
