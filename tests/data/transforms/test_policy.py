"""What policies choose."""

import pytest
import torch

from codistill.data.transforms.operations import OPERATIONS
from codistill.data.transforms.policy import Policy, levels

NAMES = list(OPERATIONS)


def test_the_levels_are_those_of_the_papers_public_code() -> None:
    wide, rand = levels("trivial", (64, 48)), levels("rand", (64, 48))
    assert wide["posterize"].values()[[0, 15, 30]].tolist() == [8, 5, 2]
    assert rand["posterize"].values()[[0, 15, 30]].tolist() == [8, 6, 4]
    assert [round(wide[name].values()[30].item(), 3) for name in ("shear_x", "rotate", "colour")] == [0.99, 135, 0.99]
    assert [round(rand[name].values()[30].item(), 3) for name in ("shear_x", "rotate", "colour")] == [0.3, 30, 0.9]
    assert wide["translate_x"].values()[30] == wide["translate_y"].values()[30] == 32
    assert rand["translate_x"].values()[30] == pytest.approx(48 * 150 / 331)
    assert rand["translate_y"].values()[30] == pytest.approx(64 * 150 / 331)
    assert wide["solarize"].values()[[0, 30]].tolist() == [255, 0]
    assert levels("trivial", (8, 8))["translate_x"].values()[30] == 8


def test_trivial_draws_every_operation_every_strength_and_both_signs() -> None:
    which, value = Policy("trivial", (32, 32)).draw(20_000, torch.Generator().manual_seed(0))
    assert which.shape == value.shape == (20_000, 1)
    assert torch.bincount(which[:, 0]).min() > 20_000 / 14 * 0.85
    turned = value[which == NAMES.index("rotate")]
    assert len(turned.unique()) == 61  # 30 to each side, and none
    assert (turned < 0).float().mean() == pytest.approx(0.5, abs=0.05)
    brighter = value[which == NAMES.index("brightness")]
    assert brighter.min() == pytest.approx(0.01)
    assert brighter.max() == pytest.approx(1.99)
    assert value[which == NAMES.index("solarize")].min() == 0


def test_rand_does_some_operations_of_one_strength() -> None:
    which, value = Policy("rand", (32, 32), operations=3, strength=9).draw(500, torch.Generator().manual_seed(0))
    assert which.shape == (500, 3)
    assert set(value[which == NAMES.index("rotate")].abs().tolist()) == {9.0}
    assert set(value[which == NAMES.index("posterize")].tolist()) == {7.0}


def test_each_image_gets_its_own_operations_one_after_the_other() -> None:
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    which = torch.tensor([[0, 0], [5, 11], [11, 5], [5, 5], [13, 0], [1, 6]])
    value = torch.tensor([[0, 0], [45, 100], [100, 45], [90, -90], [0, 0], [0.5, 1.5]], dtype=torch.float64)
    expected = images.clone()
    for row in range(6):
        for number, own in zip(which[row].tolist(), value[row].tolist(), strict=True):
            operation = OPERATIONS[NAMES[number]]
            expected[row : row + 1] = operation(expected[row : row + 1], torch.tensor([own], dtype=torch.float64))
    assert torch.equal(Policy("rand", (8, 8), operations=2).apply(images.clone(), which, value), expected)
    assert torch.equal(expected[0], images[0])
    assert not torch.equal(expected[1], expected[2])
