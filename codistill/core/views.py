"""Views: the other ways to look at a batch that tasks and lessons may ask for, by name.

A view keeps the rows of the batch in order, so row b of every view shows the same image. The cohort makes each view
that anybody names once per step and shares it among the students. A view that chooses at random chooses by
``draws``, one integer per image, so that it is the same for everybody who asks, and for the task that asks about it.
"""

from collections.abc import Callable
from functools import partial
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from codistill.errors import UserError

CLEAN = "clean"  # the upright, augmented image: every student always sees it
SECOND = "second"  # another augmentation of it, independent of the first
QUARTER_TURNS = (CLEAN, "rot90", "rot180", "rot270")  # counter-clockwise; the index is the rotation label
# The letters say where red, green and blue come from: "gbr" shows green as red, blue as green, red as blue.
COLOURS = {
    3: (CLEAN, "colour_gbr", "colour_brg"),  # the cyclic ones
    6: (CLEAN, "colour_rbg", "colour_grb", "colour_gbr", "colour_brg", "colour_bgr"),
}

# grid -> permutations; place t of a shuffled image shows tile permutation[t], both counted row by row. Of 3x3 tiles
# there are 362,880, so 30 far from each other are chosen: first the identity, then always one whose smallest Hamming
# distance to those chosen is the largest (among such the largest sum of distances, then the first in order).
_FAR_APART = (
    "012345678 103254786 230167845 321078564 456780123 547806231 678412350 785631402 864523017 023186457 "
    "134670258 208536174 345287610 170825463 482063751 186302547 217483506 561748032 607314825 750261384 "
    "812057346 021654873 346105728 435718260 573420681 064872135 628541703 752436018 803147562 210658437"
)
JIGSAWS: dict[int, tuple[tuple[int, ...], ...]] = {
    2: tuple(permutations(range(4))),
    3: tuple(tuple(map(int, digits)) for digits in _FAR_APART.split()),
}

MASK_GRID = 4  # masks hide cells of a 4x4 grid
# Park and Miller's generator, x -> 16807 x mod 2^31 - 1: these factors lead from a draw to its next 16 numbers.
_MODULUS = 2**31 - 1
_FACTORS = [pow(16807, step, _MODULUS) for step in range(1, MASK_GRID**2 + 1)]


def quarter_turn(images: Tensor, turns: int) -> Tensor:
    """Turn (B, C, H, W) images counter-clockwise by ``turns`` x 90 degrees.

    >>> quarter_turn(torch.tensor([[[[1, 2], [3, 4]]]]), 1)
    tensor([[[[2, 4],
              [1, 3]]]])
    """
    if images.shape[-1] != images.shape[-2]:
        height, width = images.shape[-2:]
        raise UserError(f"Rotated views need square images, got {height}x{width}. Set data.image_size.")
    return torch.rot90(images, turns, dims=(-2, -1))


def reorder_channels(images: Tensor, order: str) -> Tensor:
    """(B, 3, H, W) images whose channels are those that the three letters of ``order`` name."""
    return torch.stack([images[:, "rgb".index(letter)] for letter in order], dim=1)


def which_jigsaw(draws: Tensor | None, grid: int) -> Tensor:
    """The index into ``JIGSAWS[grid]`` of each image's permutation, (B,). Raises ValueError without draws."""
    return _needed(draws, f"jigsaw{grid}") % len(JIGSAWS[grid])


def jigsaw(images: Tensor, draws: Tensor | None, grid: int) -> Tensor:
    """(B, C, H, W) images cut into grid x grid tiles and shuffled, each as ``which_jigsaw`` says.

    Where the grid does not divide the size, the rows and columns left over around the centre show the mean colour.
    """
    batch, channels, height, width = images.shape
    h, w = height // grid, width // grid  # of a tile
    top, left = (height - grid * h) // 2, (width - grid * w) // 2
    centre = images[:, :, top : top + grid * h, left : left + grid * w]
    tiles = centre.unflatten(2, (grid, h)).unflatten(4, (grid, w))  # (B, C, grid, h, grid, w)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, grid * grid, C, h, w)
    table = torch.tensor(JIGSAWS[grid]).to(images.device, non_blocking=True)
    tile_of_place = table[which_jigsaw(draws, grid)]  # (B, grid * grid)
    shuffled = tiles[torch.arange(batch, device=images.device)[:, None], tile_of_place]
    shuffled = shuffled.unflatten(1, (grid, grid)).permute(0, 3, 1, 4, 2, 5)  # (B, C, grid, h, grid, w)
    shuffled = shuffled.reshape(batch, channels, grid * h, grid * w)
    return F.pad(shuffled, (left, width - grid * w - left, top, height - grid * h - top))


def masked(images: Tensor, draws: Tensor | None, cells: int) -> Tensor:
    """(B, C, H, W) images with ``cells`` of the 4x4 grid's cells, other ones in each, set to the mean colour."""
    factors = torch.tensor(_FACTORS).to(images.device, non_blocking=True)
    seeds = _needed(draws, f"masked{cells}") % (_MODULUS - 1) + 1  # never 0, of which nothing but 0 would follow
    scores = seeds[:, None] * factors % _MODULUS  # (B, 16): products stay below 2^62, and no two scores are equal
    last_hidden = scores.sort(dim=1).values[:, cells - 1 : cells]
    shown = (scores > last_hidden).to(images.dtype).view(-1, 1, MASK_GRID, MASK_GRID)
    return images * F.interpolate(shown, size=images.shape[-2:], mode="nearest")


def _needed(draws: Tensor | None, view: str) -> Tensor:
    if draws is None:
        raise ValueError(f"View '{view}' chooses at random: the batch must have draws, an integer for each image.")
    return draws


# name -> function of augmented images (B, C, H, W) and the batch's draws (B,), which most views leave alone
VIEWS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    CLEAN: lambda images, draws: images,
    SECOND: lambda images, draws: images,
    "rot90": lambda images, draws: quarter_turn(images, 1),
    "rot180": lambda images, draws: quarter_turn(images, 2),
    "rot270": lambda images, draws: quarter_turn(images, 3),
    "colour_rbg": lambda images, draws: reorder_channels(images, "rbg"),
    "colour_grb": lambda images, draws: reorder_channels(images, "grb"),
    "colour_gbr": lambda images, draws: reorder_channels(images, "gbr"),
    "colour_brg": lambda images, draws: reorder_channels(images, "brg"),
    "colour_bgr": lambda images, draws: reorder_channels(images, "bgr"),
    "jigsaw2": lambda images, draws: jigsaw(images, draws, 2),
    "jigsaw3": lambda images, draws: jigsaw(images, draws, 3),
    **{f"masked{cells}": partial(masked, cells=cells) for cells in range(1, MASK_GRID**2)},
}
