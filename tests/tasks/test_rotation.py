"""Joint label of class and quarter turn."""

import pytest
import references
import torch
from cohorts import CLASSES, SIZE, make_batch

from codistill import Student, observe_shapes
from codistill.core.views import QUARTER_TURNS, VIEWS
from codistill.models import MODELS
from codistill.tasks.rotation import Rotation, joint_labels


def test_the_joint_label_of_class_y_at_turn_r_is_4y_plus_r() -> None:
    assert joint_labels(torch.tensor([0, 2])).tolist() == [0, 8, 1, 9, 2, 10, 3, 11]


@pytest.mark.parametrize("hierarchical", [False, True])
def test_the_loss_is_the_literal_joint_cross_entropy_summed_over_heads(hierarchical: bool) -> None:
    student = Student(MODELS["resnet8"](), CLASSES).eval()
    task = Rotation(observe_shapes(student, (3, SIZE, SIZE)), hierarchical=hierarchical).eval()
    batch = make_batch()
    seen = {view: student(VIEWS[view](batch.images, None)) for view in QUARTER_TURNS}
    expected = references.joint_cross_entropy(
        [task.head(seen[view].embedding) for view in QUARTER_TURNS], batch.labels.tolist()
    )
    for stage, head in enumerate(task.stage_heads):
        logits = [head(seen[view].feature_maps[stage]) for view in QUARTER_TURNS]
        expected += references.joint_cross_entropy(logits, batch.labels.tolist())
    assert len(task.stage_heads) == (2 if hierarchical else 0)
    assert task(seen, batch).item() == pytest.approx(expected, abs=1e-5)


def test_quarter_turns_are_counter_clockwise_and_four_of_them_come_back() -> None:
    batch = make_batch(1)
    images = batch.images
    assert torch.equal(VIEWS["rot90"](images, None)[..., -1, 0], images[..., 0, 0])  # top left goes to bottom left
    assert torch.equal(torch.rot90(VIEWS["rot270"](images, None), 1, (-2, -1)), images)
    assert torch.equal(VIEWS["rot180"](images, None), images.flip(-1, -2))
