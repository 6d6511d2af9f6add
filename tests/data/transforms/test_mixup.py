"""Mixup and CutMix."""

import numpy as np
import pytest
import torch

from codistill.data.transforms.mixup import Mix, Mixing, cut_box, mixed

IMAGES = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(1))


def test_mixup_is_the_weighted_sum_of_two_images() -> None:
    torch.testing.assert_close(mixed(IMAGES, OTHERS, Mix(0.3, None)), 0.3 * IMAGES + 0.7 * OTHERS)


def test_cutmix_shows_the_other_image_in_a_box_and_itself_around_it() -> None:
    before = IMAGES.clone()
    found = mixed(IMAGES, OTHERS, Mix(0.75, (1, 3, 2, 5)))
    for y in range(4):
        for x in range(6):
            source = OTHERS if 1 <= y < 3 and 2 <= x < 5 else IMAGES
            assert torch.equal(found[:, :, y, x], source[:, :, y, x])
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize(
    ("share", "centre", "box"),
    [
        (0.75, (8, 8), (4, 12, 4, 12)),  # a quarter of the area: half of each side
        (0.75, (0, 15), (0, 4, 11, 16)),  # cut off at the border
        (1.0, (8, 8), (8, 8, 8, 8)),
        (0.0, (8, 8), (0, 16, 0, 16)),
    ],
)
def test_a_box_has_its_share_of_the_area_and_the_label_what_is_left(
    share: float, centre: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    mix = cut_box(share, centre, (16, 16))
    assert mix.box == box
    assert mix.share == 1 - (box[1] - box[0]) * (box[3] - box[2]) / 256


def test_shares_are_beta_distributed_and_a_coin_decides_between_the_two() -> None:
    random = np.random.default_rng(0)
    shares = [Mixing(0.2, 0.0).draw(random, (8, 8)) for _ in range(3000)]
    assert all(mix.box is None for mix in shares)
    assert np.mean([mix.share for mix in shares]) == pytest.approx(0.5, abs=0.03)
    assert np.var([mix.share for mix in shares]) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.02)
    both = [Mixing(1.0, 1.0).draw(random, (8, 8)).box is None for _ in range(1000)]
    assert np.mean(both) == pytest.approx(0.5, abs=0.06)
    assert all(Mixing(0.0, 1.0).draw(random, (8, 8)).box is not None for _ in range(20))
