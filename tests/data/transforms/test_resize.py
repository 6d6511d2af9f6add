"""One resizing for training, evaluation and prediction: against what the words say, and against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codistill.data.images import resize as resize_images
from codistill.data.transforms.resize import resize

RANDOM = np.random.default_rng(0)
SIZES = [(8, 8, 4, 4), (8, 8, 3, 5), (9, 7, 9, 2), (5, 6, 10, 12), (5, 6, 7, 7), (6, 5, 8, 3), (300, 20, 4, 4)]


def image(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("sizes", SIZES)
def test_pixels_are_those_of_pytorch_within_one_level_where_it_rounds_a_half(sizes: tuple[int, int, int, int]) -> None:
    height, width, *size = sizes
    pixels = image(height, width)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    areas = F.adaptive_avg_pool2d(planes, [min(height, size[0]), min(width, size[1])])
    expected = F.interpolate(areas, size, mode="bilinear")
    exact = expected[0].permute(1, 2, 0).numpy()
    resized = resize(pixels, (size[0], size[1]))
    assert resized.shape == exact.shape
    assert np.abs(resized - exact).max() <= 0.5 + 1e-9
    near_half = np.abs(exact % 1 - 0.5) < 1e-6
    assert np.array_equal(resized[~near_half], np.rint(exact)[~near_half].astype(np.uint8))


def test_halving_is_the_mean_of_four_pixels_with_halves_to_even() -> None:
    pixels = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [255, 255, 0, 0], [255, 255, 0, 1]], dtype=np.uint8)[..., None]
    assert resize(pixels, (2, 2))[..., 0].tolist() == [[0, 2], [255, 0]]  # 0.5, 2.5, 255, 0.25


def test_a_crop_is_the_central_square_of_the_shorter_side() -> None:
    pixels = image(6, 11)
    assert np.array_equal(resize(pixels, (3, 3), "crop"), resize(pixels[:, 2:8], (3, 3)))


@pytest.mark.parametrize(("height", "width"), [(6, 12), (12, 6), (5, 9), (9, 4), (3, 400), (6, 6), (2, 3)])
def test_a_padded_image_is_all_of_it_in_its_proportions_in_the_middle_of_black(height: int, width: int) -> None:
    pixels = np.maximum(image(height, width), 1)
    padded = resize(pixels, (6, 6), "pad")
    shape = max(1, round(6 * height / max(height, width))), max(1, round(6 * width / max(height, width)))
    rows, columns = (np.flatnonzero(padded.any(axis=(2, 1 - axis))) for axis in (0, 1))
    assert np.array_equal(padded[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], resize(pixels, shape))
    for length, seen in ((6 - shape[0], rows), (6 - shape[1], columns)):
        assert seen[0] in (length // 2, length - length // 2)


def test_an_image_of_the_right_size_is_left_alone() -> None:
    pixels = image(6, 5)
    assert resize(pixels, (6, 5)) is pixels
    assert resize(pixels, (6, 5), "crop") is resize(pixels, (6, 5), "pad") is pixels, "it was trained on whole"


def test_the_data_sets_resize_as_prediction_does() -> None:
    images = np.stack([image(11, 7) for _ in range(3)])
    together = resize_images(torch.from_numpy(images), 9)
    assert all(np.array_equal(together[row], resize(one, (9, 9))) for row, one in enumerate(images))
