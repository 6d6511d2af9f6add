"""Random resized crops against one image at a time."""

import math

import pytest
import torch
import torch.nn.functional as F

from codistill.data.transforms.resized_crop import TRIES, Boxes, ResizedCrop, boxes, enlarge

SCALE, RATIO = [0.08, 1.0], [0.75, 4 / 3]


def slow_box(
    tries: list[list[float]], place: list[float], size: tuple[int, int], scale: list[float], ratio: list[float]
) -> tuple[int, int, int, int]:
    """torchvision's ``get_params`` with given random numbers: top, left, height, width."""
    full_height, full_width = size
    for for_area, for_ratio in tries:
        area = full_height * full_width * (scale[0] + (scale[1] - scale[0]) * for_area)
        low, high = math.log(ratio[0]), math.log(ratio[1])
        shape = math.exp(low + (high - low) * for_ratio)
        width, height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < width <= full_width and 0 < height <= full_height:
            return int(place[0] * (full_height - height + 1)), int(place[1] * (full_width - width + 1)), height, width
    if full_width / full_height < min(ratio):
        width, height = full_width, round(full_width / min(ratio))
    elif full_width / full_height > max(ratio):
        height, width = full_height, round(full_height * max(ratio))
    else:
        height, width = size
    return (full_height - height) // 2, (full_width - width) // 2, height, width


@pytest.mark.parametrize("size", [(16, 16), (20, 7), (5, 31)])
@pytest.mark.parametrize("scale", [SCALE, [0.9, 1.0]])
def test_boxes_are_those_of_one_image_at_a_time(size: tuple[int, int], scale: list[float]) -> None:
    generator = torch.Generator().manual_seed(0)
    tries, place = torch.rand(200, TRIES, 2, generator=generator), torch.rand(200, 2, generator=generator)
    found = torch.stack(boxes(tries, place, size, scale, RATIO), dim=1)
    expected = [slow_box(*numbers, size, scale, RATIO) for numbers in zip(tries.tolist(), place.tolist(), strict=True)]
    assert found.tolist() == [list(box) for box in expected]
    if size != (16, 16) and scale[0] == 0.9:  # nearly the whole of a long image never has such a ratio
        assert len(set(expected)) == 1


def test_a_box_is_enlarged_as_if_it_were_an_image_of_its_own() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 12, 9), dtype=torch.uint8, generator=generator)
    box = Boxes(*torch.tensor([[0, 3, 11, 0], [0, 2, 8, 4], [12, 5, 1, 7], [9, 6, 1, 2]]))
    mirrored = torch.tensor([False, True, False, True])
    found = enlarge(images, box, mirrored)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for i, (top, left, height, width) in enumerate(torch.stack(box, dim=1).tolist()):
        part = images[i : i + 1, :, top : top + height, left : left + width].float()
        alone = F.interpolate(part, size=(12, 9), mode="bilinear", align_corners=False)[0]
        alone = alone.flip(-1) if mirrored[i] else alone
        assert (found[i].float() - alone).abs().max() <= 0.51
    assert torch.equal(found[0], images[0])


def test_without_flip_nothing_is_mirrored_and_the_whole_image_stays_as_it_is() -> None:
    crop = ResizedCrop((8, 8), [1.0, 1.0], [1.0, 1.0], flip=False)
    pixels = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([4, 0, 0])
    cut = crop.cut(pixels, rows, *crop.draw(3, torch.Generator().manual_seed(0)))
    assert torch.equal(cut, pixels[rows].permute(0, 3, 1, 2))
