"""What must hold on a GPU. Skipped where there is none."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from codistill.config.schema import make_config
from codistill.training.build import build
from codistill.training.runtime import Runtime
from codistill.training.step import Step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

RUNS: dict[str, dict[str, Any]] = {
    "dml": {"method": "dml", "tasks": "none"},
    "collaborative": {"method": "collaborative", "tasks": ["rotation", "jigsaw"]},
    "kdcl": {"method": "kdcl", "tasks": ["supcon", "simclr"]},
    "hssakd": {"method": "hssakd", "tasks": "none"},
}
STEPS = 5


def steps(name: str, check_synchronisation: bool = False, **settings: Any) -> list[Tensor]:
    """The objective of a few steps on a GPU, still there."""
    config = make_config({**RUNS[name], "data": "digits", "batch_size": 64, "compile": False, **settings})
    experiment = build(config)
    optimizer = experiment.runtime.optimizer(experiment.cohort, lr=0.0, momentum=0.9)
    step = Step(experiment.cohort, experiment.objective, optimizer, experiment.runtime)
    experiment.cohort.train()
    totals = []
    batches = experiment.loader.epoch(0)
    for number, batch in enumerate(islice(batches, STEPS)):
        if check_synchronisation and number == 1:  # the first step sets things up
            torch.cuda.set_sync_debug_mode("error")
        _, total = step.forward(batch, progress=number / STEPS)
        step.backward(total)
        step.update(0.002 * (number + 1))
        totals.append(total.detach().clone())
    torch.cuda.set_sync_debug_mode("default")
    return totals


def agree(one: list[Tensor], other: list[Tensor], tolerance: float) -> None:
    found, expected = (torch.stack([total.float().cpu() for total in totals]) for totals in (one, other))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("resident", [True, False])
def test_a_step_never_waits_for_the_device(
    name: str, precision: str, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not resident:
        monkeypatch.setattr(Runtime, "free_memory_bytes", lambda self: 0)
    try:
        steps(name, check_synchronisation=True, precision=precision)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", RUNS)
def test_half_precision_loses_what_fp32_loses(name: str, precision: str) -> None:
    agree(steps(name, precision=precision), steps(name), 5e-2)


def test_a_skipped_step_on_a_gpu_moves_no_weight_and_no_moving_average() -> None:
    given = {"method": "pcl", "tasks": "none", "data": "digits", "batch_size": 64}
    experiment = build(make_config({**given, "precision": "fp16", "compile": False}))
    cohort, runtime = experiment.cohort, experiment.runtime
    step = Step(cohort, experiment.objective, runtime.optimizer(cohort, lr=0.1, momentum=0.9), runtime)
    cohort.train()
    for batch, overflows in zip(experiment.loader.epoch(0), [True, False, False, True], strict=False):
        before = [parameter.detach().clone() for parameter in cohort.parameters()]
        step.backward(step.forward(batch, progress=1.0)[1] * (float("inf") if overflows else 1.0))
        step.update(0.01)
        stayed = [torch.equal(one, other) for one, other in zip(before, cohort.parameters(), strict=True)]
        assert all(stayed) if overflows else not all(stayed)


@pytest.mark.parametrize("compile", [True, "cuda_graphs"])
@pytest.mark.parametrize("name", RUNS)
def test_compiled_steps_lose_what_eager_ones_lose(name: str, compile: bool | str) -> None:
    agree(steps(name, compile=compile), steps(name), 5e-3)


@pytest.mark.parametrize("name", ["dml", "hssakd"])
def test_batches_sent_ahead_are_those_that_lie_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = steps(name)
    monkeypatch.setattr("codistill.training.runtime.Runtime.free_memory_bytes", lambda self: 0)
    agree(steps(name), resident, 1e-3)


def test_the_default_run_trains_without_compiling_where_there_is_no_compiler(tmp_path: Path) -> None:
    lacking = {"PATH": "/nonexistent", "CC": "/nonexistent", "CXX": "/nonexistent"}
    caches = {name: str(tmp_path / name) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
    ended = subprocess.run(
        [sys.executable, "-m", "codistill", "train", "epochs=1"],
        env={**os.environ, **lacking, **caches},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert (ended.stdout + ended.stderr).count("compile=auto: nothing is compiled here") == 1
