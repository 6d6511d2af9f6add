"""Cohorts under DistributedDataParallel."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from cohorts import gradients, make_batch, make_cohort, without_gradient
from torch.nn.parallel import DistributedDataParallel

from codistill.methods import METHODS

STUDENTS = {"a": "resnet8", "b": "cnn"}


def _half(rank: int, meeting_point: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=2)
    cohort, objective = make_cohort(STUDENTS, ["rotation", "supcon"], "collaborative")
    wrapped = DistributedDataParallel(cohort, find_unused_parameters=False)
    for _ in range(2):  # a parameter left out in the first step raises in the second
        wrapped.zero_grad()
        objective(wrapped(make_batch(seed=rank))).backward()
        if not Path(out, f"{rank}.pt").exists():
            torch.save(gradients(cohort), Path(out, f"{rank}.pt"))
    dist.barrier()  # nobody leaves while another still talks to it
    dist.destroy_process_group()
    os._exit(0)  # done: gloo's threads now and then abort the process when Python takes itself down around them


def test_two_processes_end_with_the_average_of_their_gradients() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_half, (f"{folder}/meet", folder), nprocs=2)
        found = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(2)]
    each = []
    for rank in range(2):
        cohort, objective = make_cohort(STUDENTS, ["rotation", "supcon"], "collaborative")
        objective(cohort(make_batch(seed=rank))).backward()
        each.append(gradients(cohort))
    average = {name: (each[0][name] + each[1][name]) / 2 for name in each[0]}
    torch.testing.assert_close(found[0], average, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0], found[1], atol=0, rtol=0)


@pytest.fixture
def alone_in_a_group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone: enough for DDP to demand a gradient of every parameter."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("alone_in_a_group")
def test_every_method_has_a_static_graph_in_which_every_parameter_learns(method: str) -> None:
    students = {"a": "resnet8", "b": "resnet8", "c": "resnet8"}
    cohort, objective = make_cohort(students, ["rotation", "supcon", None], method)
    wrapped = DistributedDataParallel(cohort, find_unused_parameters=False, static_graph=True)
    for seed in range(3):  # a graph that changes, or a parameter left out, raises in a later step
        wrapped.zero_grad()
        objective(wrapped(make_batch(seed=seed)), progress=seed / 3).backward()
        cohort.after_step()
    assert without_gradient(cohort) == []
