"""Operations on whole batches against Pillow, one image at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from codistill.data.transforms.operations import OPERATIONS

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 256, (3, 17, 20, 3), dtype=np.uint8)
SMOOTH = np.linspace(30, 200, 17 * 20 * 3).reshape(1, 17, 20, 3).astype(np.uint8)
DARK = RANDOM.integers(40, 90, (1, 17, 20, 3), dtype=np.uint8)
FLAT = np.full((1, 17, 20, 3), 77, dtype=np.uint8)
LARGE = (RANDOM.integers(0, 256, (1, 40, 50, 3)) // 3 * 2).astype(np.uint8)
IMAGES = np.concatenate([NOISE, SMOOTH, DARK, FLAT])
NEAREST = Image.Resampling.NEAREST


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, NEAREST)


def posterized(image: Image.Image, bits: float) -> Image.Image:
    return ImageOps.posterize(image, int(bits))


SLOW: dict[str, tuple[Callable[[Image.Image, float], Image.Image], list[float]]] = {
    "identity": (lambda image, _: image, [0.0]),
    "shear_x": (lambda image, m: affine(image, 1, m, 0, 0, 1, 0), [-0.99, -0.3, 0.0, 0.133, 0.99]),
    "shear_y": (lambda image, m: affine(image, 1, 0, 0, m, 1, 0), [-0.99, -0.3, 0.0, 0.133, 0.99]),
    "translate_x": (lambda image, m: affine(image, 1, 0, -int(m), 0, 1, 0), [-32.0, -3.7, 0.0, 5.2]),
    "translate_y": (lambda image, m: affine(image, 1, 0, 0, 0, 1, -int(m)), [-32.0, -3.7, 0.0, 5.2]),
    "rotate": (lambda image, m: image.rotate(m, NEAREST), [-134.0, -31.0, 0.0, 4.5, 89.0, 117.0]),
    "brightness": (lambda image, m: ImageEnhance.Brightness(image).enhance(m), [0.01, 0.5, 1.0, 1.99]),
    "colour": (lambda image, m: ImageEnhance.Color(image).enhance(m), [0.01, 0.5, 1.0, 1.99]),
    "contrast": (lambda image, m: ImageEnhance.Contrast(image).enhance(m), [0.01, 0.5, 1.0, 1.99]),
    "sharpness": (lambda image, m: ImageEnhance.Sharpness(image).enhance(m), [0.01, 0.5, 1.0, 1.99]),
    "posterize": (posterized, [8.0, 5.0, 2.0]),
    "solarize": (lambda image, m: ImageOps.solarize(image, m), [255.0, 128.0, 8.5, 0.0]),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), [0.0]),
    "equalize": (lambda image, _: ImageOps.equalize(image), [0.0]),
}
GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def channels_last(images: np.ndarray) -> Tensor:
    """As the loader has them: (n, 3, H, W)."""
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)


def test_every_operation_is_held_against_pillow() -> None:
    assert SLOW.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("images", [IMAGES, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", SLOW)
def test_an_operation_gives_pillows_pixels(name: str, images: np.ndarray) -> None:
    slow, values = SLOW[name]
    for value in values:
        found = OPERATIONS[name](channels_last(images), torch.full((len(images),), value, dtype=torch.float64))
        expected = channels_last(np.stack([np.array(slow(Image.fromarray(image), value)) for image in images]))
        assert found.dtype == torch.uint8
        difference = (found.int() - expected.int()).abs()
        if name in GEOMETRIC:  # the nearest pixel may be another where two are as near
            assert (difference > 0).float().mean() < 0.01, value
        else:
            assert difference.max() <= 1, value


@pytest.mark.parametrize("name", SLOW)
def test_each_image_has_a_value_of_its_own(name: str) -> None:
    values = torch.tensor((SLOW[name][1] * 6)[:6], dtype=torch.float64)
    together = OPERATIONS[name](channels_last(IMAGES), values)
    for row in range(6):
        alone = OPERATIONS[name](channels_last(IMAGES[row : row + 1]), values[row : row + 1])
        assert torch.equal(together[row], alone[0])
