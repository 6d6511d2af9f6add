"""Supervised contrastive learning."""

import pytest
import references
import torch

from codistill.tasks.supcon import supervised_contrastive


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]])
def test_the_loss_is_the_literal_one(labels: list[int]) -> None:
    torch.manual_seed(0)
    projections = torch.randn(6, 8)
    expected = references.supervised_contrastive(projections, labels, temperature=0.1)
    loss = supervised_contrastive(projections, torch.tensor(labels), 0.1)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_without_any_positive_gives_zero_loss_and_finite_gradients(count: int) -> None:
    projections = torch.randn(count, 8, requires_grad=True)
    loss = supervised_contrastive(projections, torch.arange(count), 0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert projections.grad is not None
    assert projections.grad.isfinite().all()
