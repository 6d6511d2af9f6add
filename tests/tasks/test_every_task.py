"""What holds for every task."""

import pytest
import torch
from cohorts import CLASSES, gradients, make_batch, make_cohort

from codistill.core.views import VIEWS
from codistill.tasks import TASKS

TWO = {"cnn": "cnn", "vit": "vit"}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_trains_its_own_head_and_student_and_nobody_else(task: str) -> None:
    cohort, objective = make_cohort(TWO, [task, task])
    losses = cohort(make_batch())
    objective.table(losses)
    for name, other in (("cnn", "vit"), ("vit", "cnn")):
        cohort.zero_grad()
        losses[f"{name}/{task}"].backward()
        found = {key for key, gradient in gradients(cohort).items() if gradient.abs().max() > 0}
        assert not [key for key in found if f"s.{other}." in key]
        assert any(key.startswith(f"students.{name}.backbone") for key in found)
        heads = {key for key, _ in cohort.named_parameters() if key.startswith(f"tasks.{name}.")}
        assert heads
        assert heads <= found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [1, 4])
def test_a_batch_of_one_image_or_of_one_class_gives_finite_losses_and_gradients(task: str, size: int) -> None:
    cohort, objective = make_cohort(TWO, [task, task])
    batch = make_batch(size)
    losses = cohort(batch._replace(labels=torch.full_like(batch.labels, CLASSES - 1)))
    objective(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients(cohort).values())


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_keeps_the_shape_and_looks_at_each_row_by_itself(view: str) -> None:
    batch = make_batch(3)
    assert batch.draws is not None
    shown = VIEWS[view](batch.images, batch.draws)
    assert shown.shape == batch.images.shape
    assert torch.equal(shown[2:], VIEWS[view](batch.images[2:], batch.draws[2:]))
    assert torch.equal(shown, VIEWS[view](batch.images, batch.draws))


def test_tasks_with_random_views_can_be_compiled() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, ["jigsaw", "reconstruction"])
    cohort.eval()
    compiled = torch.compile(cohort, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(make_batch(3)), cohort(make_batch(3)), atol=1e-5, rtol=1e-5)
