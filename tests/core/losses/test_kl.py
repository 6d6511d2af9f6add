"""KL(a <- b)."""

import pytest
import references
import torch

from codistill.core.losses.kl import softened_kl


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_kl_of_several_teachers_is_the_weighted_sum_of_literal_kls(temperature: float) -> None:
    torch.manual_seed(0)
    logits, targets, weights = torch.randn(4, 5), torch.randn(3, 4, 5), torch.tensor([0.5, 0.2, 1.0])
    expected = sum(
        float(w) * references.kl(logits, target, temperature) for w, target in zip(weights, targets, strict=True)
    )
    assert softened_kl(logits, targets, weights, temperature).item() == pytest.approx(expected, abs=1e-5)


def test_a_learner_equal_to_its_target_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    loss = softened_kl(logits, logits.detach()[None], torch.ones(1), 3.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_the_target_stands_first_in_the_divergence() -> None:
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    one = torch.ones(1)
    assert softened_kl(sure, unsure[None], one).item() == pytest.approx(references.kl(sure, unsure, 1.0), abs=1e-6)
    assert softened_kl(sure, unsure[None], one) != softened_kl(unsure, sure[None], one)
