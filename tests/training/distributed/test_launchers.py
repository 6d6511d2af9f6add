"""Whoever starts the processes, the run is the same: torchrun on one machine, on two, and ``accelerate launch``."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from codistill.experiments.doctor import first_difference

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
# The module, and not the command `accelerate`, which imports all its subcommands and what they may need.
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
LEARN = ["method=collaborative", "tasks=jigsaw"]
TRAIN = [
    "-m",
    "codistill",
    "train",
    *LEARN,
    "data.per_class=20",
    "batch_size=20",
    "epochs=1",
    "log_every=1",
    "device=cpu",
]

pytestmark = pytest.mark.slow


def ended(*commands: list[str]) -> None:
    """Run them at the same time; all must end well."""
    jobs = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for words in commands]
    said = [job.communicate()[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0] * len(jobs), "\n".join(said)


def on_one_machine(run: Path, *keys: str) -> Path:
    ended([*TORCHRUN, "--standalone", "--nproc-per-node", "2", *TRAIN, *keys, f"run={run}"])
    return run


@pytest.mark.parametrize("sharding", ["none", "parameters"])
def test_two_launchers_of_a_process_each_train_as_one_of_two(tmp_path: Path, sharding: str) -> None:
    """Two machines, but for the network between them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    meet = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    train = [*TRAIN, f"sharding={sharding}", f"run={tmp_path / 'two'}"]
    ended(*[[*TORCHRUN, *meet, *train]] * 2)
    assert first_difference(on_one_machine(tmp_path / "one", f"sharding={sharding}"), tmp_path / "two") is None


def test_accelerate_launch_trains_as_torchrun(tmp_path: Path) -> None:
    # Its --cpu starts one process only, unless there is MPI. --multi_gpu starts as many as it is told, and
    # device=cpu lets them train without GPUs.
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    ended([*ACCELERATE, *options, "--dynamo_backend", "no", *TRAIN, f"run={tmp_path / 'accelerate'}"])
    assert first_difference(on_one_machine(tmp_path / "torchrun"), tmp_path / "accelerate") is None
