"""Rotated-view instance discrimination."""

import pytest
import references
import torch

from codistill.tasks.contrastive import find_own_upright


def test_the_loss_is_the_literal_one() -> None:
    torch.manual_seed(0)
    turned, upright = torch.randn(3, 4, 8), torch.randn(4, 8)
    expected = references.find_own_upright(list(turned), upright, temperature=0.5)
    assert find_own_upright(turned.flatten(0, 1), upright, 0.5).item() == pytest.approx(expected, abs=1e-5)


def test_views_that_show_their_own_image_score_better_than_views_that_show_another() -> None:
    upright = torch.eye(4)
    assert find_own_upright(upright, upright, 0.5) < find_own_upright(upright.roll(1, 0), upright, 0.5)


def test_a_batch_of_one_image_has_nobody_to_confuse_it_with() -> None:
    assert find_own_upright(torch.randn(3, 8), torch.randn(1, 8), 0.5).item() == 0.0
