"""Training in processes that are killed with SIGKILL, for tests.

They are forked from a server that has imported torch once and has no threads: each costs a fraction of a second.
"""

import itertools
import multiprocessing
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from codistill.config.schema import RunConfig
from codistill.training import trainer
from codistill.training.display import Silent

CONTEXT = multiprocessing.get_context("forkserver")
# torch._dynamo is what the first step of an optimizer imports: a second, that each process would spend again.
CONTEXT.set_forkserver_preload(["pytest", "codistill.training.trainer", "torch._dynamo"])


def begin(config: RunConfig, folder: Path, fatal: int | None = None) -> Any:
    """A process that starts a run, or resumes what is left of it, and dies at the ``fatal``-th file operation."""
    process = CONTEXT.Process(target=_train, args=(config, folder, fatal))
    process.start()
    return process


def train(config: RunConfig, folder: Path, fatal: int | None = None) -> bool:
    """Train in another process; returns whether it came to its end. It must not end otherwise than by SIGKILL."""
    return _ended(begin(config, folder, fatal))


def train_until_some_moment(config: RunConfig, folder: Path, moments: random.Random) -> bool:
    """Train in another process and kill it some time during its start or its next few steps."""
    process = begin(config, folder)
    log = folder / "metrics.jsonl"
    if moments.random() < 0.2:
        time.sleep(moments.uniform(0, 0.5))
    else:
        wanted = _lines(log) + moments.randint(1, 4)
        while process.is_alive() and _lines(log) < wanted:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.05))
    process.kill()
    return _ended(process)


def _ended(process: Any) -> bool:
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"it should go on, or be killed: exit code {process.exitcode}"
    return bool(process.exitcode == 0)


def _train(config: RunConfig, folder: Path, fatal: int | None) -> None:
    torch.set_num_threads(1)
    if fatal is not None:
        _die_at(fatal)
    trainer.train(config, folder, Silent(), resume=(folder / "config.yaml").exists())


def _die_at(fatal: int) -> None:
    """Be killed instead of the ``fatal``-th fsync or rename; a file that is being written is left as its first half."""
    count = itertools.count(1)
    fsync, replace = os.fsync, os.replace

    def deadly_fsync(descriptor: int) -> None:
        if next(count) == fatal:
            with suppress(OSError):  # a folder, or a file that is only read
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    def deadly_replace(*names: Any) -> None:
        if next(count) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*names)

    os.fsync, os.replace = deadly_fsync, deadly_replace


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0
