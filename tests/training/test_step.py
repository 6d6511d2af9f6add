"""The engine's training step against one that is written out."""

import pytest
import torch
from cohorts import make_batch, make_cohort, step_by_hand

from codistill.training.runtime import Runtime
from codistill.training.step import Step

LR = 0.1
PLAIN = Runtime(torch.device("cpu"), side_by_side=False)


@pytest.mark.parametrize("clip_norm", [None, 0.5, 1e3])
@pytest.mark.parametrize("method", ["collaborative", "dml"])
def test_gradients_are_clipped_by_student_by_task_and_by_teacher(method: str, clip_norm: float | None) -> None:
    """With a bound that none, some or all gradients are below."""
    found, expected = (make_cohort({"a": "cnn", "b": "cnn"}, ["rotation", "supcon"], method) for _ in range(2))
    cohort, objective = found
    step = Step(cohort, objective, PLAIN.optimizer(cohort, lr=LR), PLAIN, clip_norm)
    plain = torch.optim.SGD(expected[0].parameters(), LR)
    for number in range(2):
        batch = make_batch(seed=number)
        step.backward(step.forward(batch, 0.5)[1])
        step.update(LR)
        step_by_hand(*expected, plain, batch, clip_norm)
    torch.testing.assert_close(cohort.state_dict(), expected[0].state_dict(), atol=1e-6, rtol=1e-5)
