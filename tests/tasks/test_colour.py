"""Joint label of class and order of the colour channels."""

from itertools import permutations

import pytest
import references
import torch
from cohorts import CLASSES, SIZE, make_batch

from codistill import Student, observe_shapes
from codistill.core.views import COLOURS, VIEWS
from codistill.models import MODELS
from codistill.tasks.colour import Colour


def orders_shown(orders: int) -> list[tuple[int, ...]]:
    """For each view, which channel of the image each of its channels is."""
    image = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    shown = [VIEWS[view](image, None) for view in COLOURS[orders]]
    assert all(torch.equal(view, view[:, :, :1, :1].expand_as(view)) for view in shown)
    return [tuple(view[0, :, 0, 0].int().tolist()) for view in shown]


def test_six_orders_are_all_orders_and_three_are_the_cyclic_ones_the_upright_one_first() -> None:
    assert orders_shown(6) == list(permutations(range(3)))
    assert orders_shown(3) == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]


@pytest.mark.parametrize("orders", [3, 6])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_the_loss_is_the_literal_joint_cross_entropy_summed_over_heads(orders: int, hierarchical: bool) -> None:
    student = Student(MODELS["resnet8"](), CLASSES).eval()
    task = Colour(observe_shapes(student, (3, SIZE, SIZE)), orders=orders, hierarchical=hierarchical).eval()  # type: ignore[arg-type]
    batch = make_batch()
    seen = {view: student(VIEWS[view](batch.images, None)) for view in COLOURS[orders]}
    assert set(seen) == {"clean", *task.views}
    labels = batch.labels.tolist()
    expected = references.joint_cross_entropy([task.head(output.embedding) for output in seen.values()], labels)
    for stage, head in enumerate(task.stage_heads):
        logits = [head(output.feature_maps[stage]) for output in seen.values()]
        expected += references.joint_cross_entropy(logits, labels)
    assert len(task.stage_heads) == (2 if hierarchical else 0)
    assert task.head.out_features == orders * CLASSES
    assert task(seen, batch).item() == pytest.approx(expected, abs=1e-5)
