"""Whether a run says that its steps are few for its tasks."""

import pytest
from cohorts import make_cohort

from codistill.training.checks import FEW_FOR_TASKS, remark_on_length


@pytest.mark.parametrize(
    ("task", "steps", "model", "said"),
    [
        ("rotation", FEW_FOR_TASKS, "resnet8", True),
        ("rotation", FEW_FOR_TASKS + 1, "resnet8", False),
        ("rotation", 10, {"name": "timm/resnet10t", "pretrained": True}, False),
        ("supcon", 10, "resnet8", False),  # it makes no view more
        (None, 10, "resnet8", False),
    ],
)
def test_few_steps_are_remarked_on_where_tasks_take_more_passes(
    task: str | None, steps: int, model: str | dict[str, object], said: bool
) -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, [task, None], "dml")
    remark = remark_on_length(cohort, steps, [model])
    assert (f"{steps:,} steps are few for tasks" in remark) is said
    assert bool(remark) is said
