"""Whole-batch augmentation against one image at a time."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codistill.core.batch import Batch
from codistill.data import images, pixel_store
from codistill.data.images import Images, channel_statistics, normalise, resize
from codistill.data.loader import TrainLoader
from codistill.data.transforms.crop import PaddedCrop, crop_and_flip, pad_reflect
from codistill.data.transforms.mixup import Mixing, mixed
from codistill.data.transforms.policy import Policy
from codistill.data.transforms.resized_crop import ResizedCrop
from codistill.errors import UserError

PIXELS = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = Images(PIXELS, torch.arange(5), tuple("abcde"))


SIZE = (8, 8)
CROP = PaddedCrop(SIZE, 2, flip=True)


def loader(**settings: object) -> TrainLoader:
    defaults = {"batch_size": 2, "mean": [0.5] * 3, "std": [0.25] * 3, "crop": CROP, "seed": 0}
    return TrainLoader(IMAGES, **{**defaults, **settings})  # type: ignore[arg-type]


def test_padding_mirrors_at_the_border_as_torch_does() -> None:
    expected = F.pad(PIXELS.permute(0, 3, 1, 2).float(), (3, 3, 3, 3), mode="reflect").permute(0, 2, 3, 1)
    assert torch.equal(pad_reflect(PIXELS, 3).float(), expected)
    assert pad_reflect(PIXELS, 0) is PIXELS


def test_crops_and_flips_are_those_of_one_image_at_a_time() -> None:
    padded = pad_reflect(PIXELS, 2)
    rows, top, left = torch.tensor([3, 0, 3]), torch.tensor([0, 4, 2]), torch.tensor([1, 0, 4])
    mirrored = torch.tensor([False, True, True])
    crops = crop_and_flip(padded, rows, top, left, mirrored, (8, 8))
    for i in range(3):
        crop = padded[rows[i], top[i] : top[i] + 8, left[i] : left[i] + 8].permute(2, 0, 1)
        assert torch.equal(crops[i], crop.flip(-1) if mirrored[i] else crop)
    assert crops.is_contiguous(memory_format=torch.channels_last)


def test_normalised_pixels_have_mean_zero_and_deviation_one() -> None:
    mean, std = channel_statistics(PIXELS)
    images = normalise(PIXELS.permute(0, 3, 1, 2), torch.tensor(mean), torch.tensor(std))
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_halving_the_size_is_the_mean_of_two_by_two_pixels() -> None:
    expected = PIXELS.float().unflatten(2, (4, 2)).unflatten(1, (4, 2)).mean(dim=(2, 4)).round()
    assert torch.equal(resize(PIXELS, 4).float(), expected)
    assert resize(PIXELS, 8) is PIXELS
    assert resize(PIXELS, 12).shape == (5, 12, 12, 3)


def test_statistics_and_sizes_do_not_depend_on_how_many_images_are_read_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statistics, halves, doubles = channel_statistics(PIXELS), resize(PIXELS, 4), resize(PIXELS, 16)
    monkeypatch.setattr(images, "_CHUNK_BYTES", 2 * PIXELS[0].numel())
    assert [len(chunk) for chunk in images.chunks(PIXELS)] == [2, 2, 1]
    assert channel_statistics(PIXELS) == statistics
    assert torch.equal(resize(PIXELS, 4), halves)
    assert torch.equal(resize(PIXELS, 16), doubles)


def test_an_epoch_sees_each_image_at_most_once_and_leaves_out_the_odd_ones() -> None:
    batches = list(loader().epoch(0))
    assert [len(batch.labels) for batch in batches] == [2, 2]
    assert len(set(torch.cat([batch.labels for batch in batches]).tolist())) == 4


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    one, other = loader(), loader()
    list(other.epoch(0))
    first, again = next(one.epoch(3)), next(other.epoch(3))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, next(one.epoch(4)).images)
    assert not torch.equal(first.images, next(loader(seed=1).epoch(3)).images)


def test_without_padding_and_flip_the_images_stay_as_they_are() -> None:
    for batch in loader(crop=PaddedCrop(SIZE, 0, flip=False)).epoch(0):
        pixels = PIXELS[batch.labels].permute(0, 3, 1, 2)
        torch.testing.assert_close(batch.images, (pixels / 255 - 0.5) / 0.25)


def test_further_augmentations_are_made_only_if_asked_for() -> None:
    assert next(loader().epoch(0)).extra == ()
    batch = next(loader(augmentations=3).epoch(0))
    assert len(batch.extra) == 2
    assert not torch.equal(batch.extra[0], batch.images)
    assert not torch.equal(batch.extra[0], batch.extra[1])


def test_asking_for_more_augmentations_changes_neither_the_first_nor_the_order() -> None:
    for one, more in zip(loader().epoch(2), loader(augmentations=2).epoch(2), strict=True):
        assert torch.equal(one.images, more.images)
        assert torch.equal(one.labels, more.labels)


def test_a_batch_larger_than_the_data_and_a_padding_larger_than_the_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"=6 is larger than the training data: 5 images\. batch_size=4 would do"):
        loader(batch_size=6)
    loader(batch_size=4)
    with pytest.raises(UserError, match=r"batch_size=6 is larger than the training data: 5 images\.$"):
        loader(batch_size=6, processes=3)
    with pytest.raises(UserError, match=r"augment.padding=8 must be smaller than the images \(8 pixels\)"):
        loader(crop=PaddedCrop(SIZE, 8, flip=True))


@pytest.mark.parametrize("settings", [{}, {"augmentations": 3}, {"crop": PaddedCrop(SIZE, 0, flip=True)}])
def test_batches_that_are_brought_ahead_are_those_of_resident_images(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_store, "CHUNK", 2)
    for epoch in range(2):
        batches = zip(loader(**settings).epoch(epoch), loader(resident=False, **settings).epoch(epoch), strict=True)
        for resident, streamed in batches:
            assert torch.equal(resident.images, streamed.images)
            assert torch.equal(resident.labels, streamed.labels)
            assert all(map(torch.equal, resident.extra, streamed.extra))


def test_an_epoch_that_is_left_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    batches = loader(resident=False).epoch(0)
    next(batches)
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("resident", [True, False])
def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_same_batches(resident: bool) -> None:
    whole = list(loader(augmentations=2).epoch(3))
    rest = list(loader(augmentations=2, resident=resident).epoch(3, start=1))
    assert len(rest) == len(whole) - 1 == 1
    for one, other in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.extra[0], other.extra[0])
        assert torch.equal(one.draws, other.draws)


RESIZED = ResizedCrop(SIZE, [0.08, 1.0], [0.75, 1.3333], flip=True)
WAYS: dict[str, dict[str, object]] = {
    "resized": {"crop": RESIZED},
    "trivial": {"policy": Policy("trivial", SIZE)},
    "rand": {"policy": Policy("rand", SIZE, 2, 9)},
    "mixup": {"mixing": Mixing(0.2, 0.0)},
    "cutmix": {"mixing": Mixing(0.0, 1.0)},
    "all": {"crop": RESIZED, "policy": Policy("trivial", SIZE), "mixing": Mixing(0.2, 1.0)},
}


def tensors(batch: Batch) -> list[torch.Tensor]:
    assert batch.draws is not None
    return [batch.images, batch.labels, *batch.extra, batch.draws, *(batch.mixed or ())]


def assert_same(ones: Sequence[Batch], others: Sequence[Batch]) -> None:
    for one, other in zip(ones, others, strict=True):
        for a, b in zip(tensors(one), tensors(other), strict=True):
            assert torch.equal(a, b)


def test_the_numbers_of_crop_and_flip_are_those_that_runs_have_always_had() -> None:
    """Written out: whoever changes a generator or the order of its calls changes every recorded run."""
    seed, epoch, padding = 7, 3, 2
    seeds = [(seed * 1_000_003 + epoch + stream * 2_654_435_761) % 2**32 for stream in range(3)]
    first, second, for_draws = (torch.Generator().manual_seed(own) for own in seeds)
    order = torch.randperm(5, generator=first)
    padded = F.pad(PIXELS.permute(0, 3, 1, 2).float(), (padding,) * 4, mode="reflect")
    for number, batch in enumerate(loader(seed=seed, augmentations=2).epoch(epoch)):
        rows = order[2 * number : 2 * number + 2]
        for generator, shown in ((first, batch.images), (second, batch.extra[0])):
            top, left = torch.randint(0, 5, (2, 2), generator=generator).tolist()
            flips = (torch.rand(2, generator=generator) < 0.5).tolist()
            for i, row in enumerate(rows):
                crop = padded[row, :, top[i] : top[i] + 8, left[i] : left[i] + 8]
                crop = crop.flip(-1) if flips[i] else crop
                torch.testing.assert_close(shown[i], (crop / 255 - 0.5) / 0.25)
        assert batch.draws.tolist() == torch.randint(0, 2**31 - 1, (2,), generator=for_draws).tolist()


@pytest.mark.parametrize("way", WAYS)
def test_an_epoch_of_any_augmentation_is_a_function_of_seed_and_epoch(way: str) -> None:
    one, other = loader(augmentations=2, **WAYS[way]), loader(augmentations=2, resident=False, **WAYS[way])
    list(other.epoch(0))
    whole = list(one.epoch(3))
    assert_same(whole, list(other.epoch(3)))
    assert_same(whole[1:], list(other.epoch(3, start=1)))  # as a resumed run takes it up
    assert_same(whole[1:], [one.at(3 * len(one) + 1)[1]])
    assert not torch.equal(whole[0].images, next(iter(one.epoch(4))).images)
    assert not torch.equal(whole[0].images, whole[0].extra[0])
    assert not torch.equal(whole[0].images, next(iter(loader(augmentations=2).epoch(3))).images)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_show_parts_of_the_batch_of_one_with_any_augmentation(way: str, processes: int) -> None:
    pixels = torch.randint(0, 256, (30, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = Images(pixels, torch.arange(30) % 5, tuple("abcde"))
    settings = {"batch_size": 12, "mean": [0.5] * 3, "std": [0.25] * 3, "crop": CROP, "seed": 0}
    settings |= {"augmentations": 2, **WAYS[way]}
    whole = list(TrainLoader(images, **settings).epoch(1))  # type: ignore[arg-type]
    parts = [
        list(TrainLoader(images, rank=rank, processes=processes, **settings).epoch(1))  # type: ignore[arg-type]
        for rank in range(processes)
    ]
    assert len(whole) == 2
    for number, batch in enumerate(whole):
        shares = [tensors(part[number]) for part in parts]
        for expected, of_parts in zip(tensors(batch), zip(*shares, strict=True), strict=True):
            torch.testing.assert_close(torch.cat(of_parts), expected)


@pytest.mark.parametrize("cutmix", [False, True])
def test_a_mixed_batch_is_the_plain_one_with_each_image_mixed_with_the_one_before(cutmix: bool) -> None:
    mixing = Mixing(0.0, 1.0) if cutmix else Mixing(1.0, 0.0)
    settings = {"batch_size": 4, "augmentations": 2}
    (plain,), (batch,) = loader(**settings).epoch(2), loader(**settings, mixing=mixing).epoch(2)
    mix = mixing.draw(np.random.default_rng([0, 2]), SIZE)
    assert torch.equal(batch.labels, plain.labels)
    assert torch.equal(batch.draws, plain.draws)
    assert torch.equal(batch.mixed.labels, plain.labels.roll(1))
    torch.testing.assert_close(batch.mixed.share, torch.full((4,), mix.share))
    for found, one in ((batch.images, plain.images), (batch.extra[0], plain.extra[0])):
        for i in range(4):
            expected = mixed(one[i : i + 1], one[i - 1 : i or None], mix)
            assert torch.equal(found[i : i + 1], expected)


@pytest.mark.parametrize("size", [(9, 4), (4, 9), (30, 12)])
def test_a_central_square_keeps_proportions_and_squashing_shows_all(size: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    square = pixels[:, top : top + side, left : left + side]
    assert torch.equal(resize(pixels, side, "crop"), square)
    assert torch.equal(resize(pixels, 4, "crop"), resize(square.clone(), 4))
    assert resize(pixels, 6).shape == resize(pixels, 6, "crop").shape == (2, 6, 6, 3)


def test_a_long_image_is_averaged_along_its_long_side_only() -> None:
    stripes = torch.zeros(1, 400, 4, 3, dtype=torch.uint8)
    stripes[:, ::2] = 200  # without a mean, sampled lines would be black or white
    assert (resize(stripes, 8) == 100).all()
