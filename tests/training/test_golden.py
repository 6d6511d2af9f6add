"""Loss curves that may not move: the first steps of three runs on digits, recorded once.

A change of a formula, of an initialisation or of the order of images shows here. Recorded in fp32 on one thread by
``python tests/test_golden.py``; to be recorded anew only where a change of the numbers is meant, and said.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import threads

from codistill.config.schema import make_config
from codistill.training.build import build
from codistill.training.step import Step

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = 12
RUNS: dict[str, dict[str, Any]] = {
    "dml": {"method": "dml", "tasks": "none"},
    "collaborative": {
        "method": {"name": "collaborative", "reliability": 1.0},
        "tasks": [{"name": "rotation", "fraction": 1}, "supcon"],
    },
    "hssakd": {"method": "hssakd", "tasks": "none"},
}
# How far from the recorded losses, relative, each way to run may be after these steps. Rounding grows as it goes.
TOLERANCES: list[tuple[dict[str, Any], float]] = [
    ({}, 2e-3),
    ({"side_by_side": True}, 2e-3),
    ({"precision": "bf16"}, 5e-2),
    ({"precision": "fp16"}, 1e-2),
]
# Half precision is slow on a CPU, and the same code whatever the method: one run of it is looked at each time.
ROWS = [
    pytest.param(name, settings, tolerance, marks=pytest.mark.slow)
    if "precision" in settings and name != "dml"
    else (name, settings, tolerance)
    for settings, tolerance in TOLERANCES
    for name in RUNS
]


def curve(name: str, settings: dict[str, Any]) -> list[dict[str, float]]:
    config = make_config({**RUNS[name], "data": "digits", "batch_size": 64, "seed": 0, **settings})
    experiment = build(config)
    optimizer = experiment.runtime.optimizer(experiment.cohort, lr=0.0, momentum=0.9, nesterov=True, weight_decay=5e-4)
    step = Step(experiment.cohort, experiment.objective, optimizer, experiment.runtime)
    experiment.cohort.train()
    found = []
    for number, batch in zip(range(STEPS), experiment.loader.epoch(0), strict=False):
        losses, total = step.forward(batch, progress=number / STEPS)
        step.backward(total)
        step.update(0.002 * (number + 1))
        found.append({loss: value.item() for loss, value in {**losses, "total": total}.items()})
    return found


@pytest.mark.parametrize(("name", "settings", "tolerance"), ROWS, ids=lambda value: str(value))
def test_losses_are_the_recorded_ones(name: str, settings: dict[str, Any], tolerance: float) -> None:
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())
    with threads(2 if "side_by_side" in settings else 1):
        found = curve(name, settings)
    assert len(found) == len(recorded) == STEPS
    for number, (step, golden) in enumerate(zip(found, recorded, strict=True)):
        assert step.keys() == golden.keys()
        for loss, value in golden.items():
            assert step[loss] == pytest.approx(value, rel=tolerance, abs=tolerance), f"{loss} in step {number}"


def test_the_recorded_losses_fall() -> None:
    for name in RUNS:
        recorded = json.loads((GOLDEN / f"{name}.json").read_text())
        assert recorded[-1]["total"] < recorded[0]["total"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    for name in RUNS:
        (GOLDEN / f"{name}.json").write_text(json.dumps(curve(name, {}), indent=1) + "\n")
