"""Operations of augmentation policies on many images at once, each with a value of its own.

All take (n, 3, H, W) uint8 images and values (n,) and return as many. Their results are Pillow's: ``ImageEnhance``,
``ImageOps``, and ``Image.transform`` with the nearest pixel and a black ground.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Each pixel (x, y) shows the one at ``matrices`` (n, 2, 3) times (x, y, 1), black where that lies outside.

    Coordinates are those of centres of pixels, 0.5 for the first.
    """
    n, channels, height, width = images.shape
    x = torch.arange(width, device=images.device) + 0.5
    y = (torch.arange(height, device=images.device) + 0.5)[:, None]
    # Not as a product of matrices: that rounds otherwise for another number of images, and the pixel would be another.
    a, b, c = matrices[..., None, None].unbind(dim=2)  # each (n, 2, 1, 1)
    column, row = (a * x + b * y + c).floor().long().flatten(2).unbind(dim=1)  # (n, H * W)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = torch.where(inside, row * width + column, 0)
    moved = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1))
    return torch.where(inside[:, None], moved, 0).view(n, channels, height, width)


def _matrices(*rows: list[Tensor | float], like: Tensor) -> Tensor:
    """(n, 2, 3) of entries that are (n,) or the same for all."""
    return torch.stack([torch.stack([torch.zeros_like(like) + entry for entry in row], dim=1) for row in rows], dim=1)


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    return warp(images, _matrices([1.0, slope, 0.0], [0.0, 1.0, 0.0], like=slope))


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    return warp(images, _matrices([1.0, 0.0, 0.0], [slope, 1.0, 0.0], like=slope))


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    return warp(images, _matrices([1.0, 0.0, -pixels.trunc()], [0.0, 1.0, 0.0], like=pixels))


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    return warp(images, _matrices([1.0, 0.0, 0.0], [0.0, 1.0, -pixels.trunc()], like=pixels))


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise, around the centre."""
    height, width = images.shape[-2:]
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    x, y = width / 2, height / 2
    return warp(images, _matrices([cos, -sin, x - x * cos + y * sin], [sin, cos, y - x * sin - y * cos], like=cos))


def grey(images: Tensor) -> Tensor:
    """(n, 1, H, W) uint8 luma, in Pillow's whole numbers."""
    red, green, blue = images.int().unbind(dim=1)
    return (((19595 * red + 38470 * green + 7471 * blue) + 32768) >> 16).byte()[:, None]


def blend(ground: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """``ground`` (n, 1 or 3, H or 1, W or 1) for a factor of 0, the images for 1, beyond them for more."""
    ground = ground.float()
    return (ground + factor.float().view(-1, 1, 1, 1) * (images.float() - ground)).clamp_(0, 255).byte()


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return blend(images.new_zeros(1, 1, 1, 1), images, factor)


def colour(images: Tensor, factor: Tensor) -> Tensor:
    return blend(grey(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = grey(images).double().mean(dim=(1, 2, 3), keepdim=True)
    return blend((mean + 0.5).floor(), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blended with the smoothed image, whose outermost pixels are the image's own."""
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5.0
    smooth = images.float()
    smooth[:, :, 1:-1, 1:-1] = (F.conv2d(images.float(), kernel / 13.0, groups=3) + 0.5).floor()
    return blend(smooth, images, factor)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only the upper ``bits`` of 8 are kept."""
    mask = 256 - (2.0 ** (8.0 - bits)).round().int()
    return (images.int() & mask.view(-1, 1, 1, 1)).byte()


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from the threshold up are inverted."""
    return torch.where(images >= threshold.view(-1, 1, 1, 1), 255 - images, images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """The darkest value of each channel becomes 0, the lightest 255."""
    low, high = images.amin(dim=(2, 3), keepdim=True).double(), images.amax(dim=(2, 3), keepdim=True).double()
    scale = 255.0 / (high - low).clamp(min=1.0)
    stretched = (images * scale - low * scale).clamp_(0, 255).byte()
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Every value of a channel becomes as common as the others, as nearly as can be."""
    n, channels, height, width = images.shape
    values = images.reshape(n * channels, -1).long()
    counts = torch.zeros(n * channels, 256, dtype=torch.long, device=images.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    lightest = values.amax(dim=1, keepdim=True)
    step = (values.shape[1] - counts.gather(1, lightest)) // 255  # 0 for a channel of one value, or nearly so
    below = counts.cumsum(dim=1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    equal = torch.where(step > 0, table.gather(1, values), values)
    return equal.byte().view(n, channels, height, width)


# In torchvision's order.
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda images, _: images,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": rotate,
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
