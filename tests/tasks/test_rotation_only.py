"""Which of the four quarter turns is shown."""

import pytest
import references
import torch
from cohorts import CLASSES, SIZE, make_batch, make_cohort

from codistill import Student, observe_shapes
from codistill.core.views import QUARTER_TURNS, VIEWS
from codistill.models import MODELS
from codistill.tasks.rotation_only import RotationOnly, turn_labels


def test_the_label_of_a_row_is_its_turn() -> None:
    assert turn_labels(2, torch.device("cpu")).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_loss_is_the_literal_cross_entropy_over_turns() -> None:
    student = Student(MODELS["resnet8"](), CLASSES).eval()
    task = RotationOnly(observe_shapes(student, (3, SIZE, SIZE)))
    batch = make_batch()
    seen = {view: student(VIEWS[view](batch.images, None)) for view in QUARTER_TURNS}
    by_turn = [references.cross_entropy(task.head(seen[view].embedding), [r] * 6) for r, view in enumerate(seen)]
    assert task(seen, batch).item() == pytest.approx(sum(by_turn) / 4, abs=1e-5)


def test_the_class_has_no_say_in_it() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "vit"}, ["rotation_only", None])
    batch = make_batch()
    loss = cohort.eval()(batch)["a/rotation_only"]
    assert torch.equal(cohort(batch._replace(labels=batch.labels.flip(0)))["a/rotation_only"], loss)
