"""The order of an epoch."""

import pytest
import torch

from codistill.data.sampler import balanced, class_pairs, rows_shown, shuffled
from codistill.errors import UserError

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 1, 1, 2, 0, 2])  # four, four and three of a class


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_shuffle_shows_every_row_once() -> None:
    assert sorted(shuffled(LABELS, generator()).tolist()) == list(range(11))


@pytest.mark.parametrize("seed", range(5))
def test_class_pairs_show_two_of_a_class_in_a_row_and_no_row_twice(seed: int) -> None:
    rows = class_pairs(LABELS, generator(seed))
    pairs = LABELS[rows].view(-1, 2)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert len(set(rows.tolist())) == len(rows) == rows_shown(LABELS, "class_pairs", 2) == 10


def test_the_row_without_a_partner_changes_from_epoch_to_epoch() -> None:
    left_out = {(set(range(11)) - set(class_pairs(LABELS, generator(seed)).tolist())).pop() for seed in range(20)}
    assert left_out == {3, 8, 10}


def test_pairs_do_not_fit_into_batches_of_odd_size() -> None:
    with pytest.raises(UserError, match="even batch_size in each process, got 3"):
        rows_shown(LABELS, "class_pairs", 3)


def test_balanced_shows_as_many_images_and_every_class_as_often_and_every_image_of_a_class() -> None:
    labels = torch.tensor([2] * 3000 + [0] * 30 + [4] * 300)  # no image of classes 1 and 3
    rows = balanced(labels, generator())
    assert len(rows) == len(labels) == rows_shown(labels, "balanced", 3)
    assert torch.equal(rows, balanced(labels, generator()))
    assert not torch.equal(rows, balanced(labels, generator(1)))
    counts = torch.bincount(labels[rows], minlength=5).tolist()
    assert counts[1] == counts[3] == 0
    assert all(abs(counts[label] - 1110) < 110 for label in (0, 2, 4))
    shown = torch.bincount(rows, minlength=len(labels))
    assert shown[3000:3030].min() >= 15  # 37 expected
    assert shown[:3000].max() <= 6
