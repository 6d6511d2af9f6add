"""Instance discrimination between two augmentations."""

import pytest
import references
import torch
from cohorts import make_batch, make_cohort

from codistill.tasks.simclr import nt_xent


@pytest.mark.parametrize("count", [2, 5])
def test_the_loss_is_the_literal_one(count: int) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, count, 8)
    expected = references.nt_xent(first, second, temperature=0.5)
    assert nt_xent(first, second, 0.5).item() == pytest.approx(expected, abs=1e-5)


def test_a_batch_of_one_image_has_nobody_to_confuse_it_with() -> None:
    first = torch.randn(1, 8, requires_grad=True)
    loss = nt_xent(first, torch.randn(1, 8), 0.5)
    loss.backward()
    assert loss.item() == 0.0
    assert first.grad is not None
    assert first.grad.isfinite().all()


def test_it_compares_the_images_with_another_augmentation_of_them() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "vit"}, ["simclr", None])
    assert cohort.augmentations == 2
    batch = make_batch()
    task, student = cohort.eval().tasks["a"]["simclr"], cohort.students["a"]
    first, second = (task.projection(student(images).embedding) for images in (batch.images, batch.extra[0]))
    torch.testing.assert_close(cohort(batch)["a/simclr"], nt_xent(first, second, 0.5))
