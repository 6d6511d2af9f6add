"""What is said of the training images before training."""

from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from odd_files import write_class_folders

from codistill.config.schema import make_config
from codistill.data.fingerprint import (
    changed_splits,
    fingerprint,
    fingerprints,
    imbalance,
    is_grey,
    names_alike,
    nearly_black,
    some_names,
)
from codistill.data.images import Images, Splits, channel_statistics
from codistill.training.build import build

GENERATOR = torch.Generator().manual_seed(0)


def images(labels: list[int], grey: bool = False) -> Images:
    pixels = torch.randint(0, 256, (len(labels), 4, 4, 1 if grey else 3), dtype=torch.uint8, generator=GENERATOR)
    return Images(pixels.expand(-1, -1, -1, 3).contiguous(), torch.tensor(labels), ("ash", "elm", "oak"))


def test_classes_of_very_different_sizes_are_told_with_what_to_do() -> None:
    assert imbalance(images([0] * 9 + [1] * 2 + [2] * 3)) is None
    said = imbalance(images([0] * 3 + [1] * 1200 + [2] * 4))
    assert said is not None
    assert "class 'elm' has 1,200, class 'ash' 3. order=balanced" in said


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cat"), ("cat", " cat"), ("red fox", "red  fox"), ("Maß", "MASS")],
)
def test_class_names_that_hardly_differ_are_told(one: str, other: str) -> None:
    said = names_alike(["owl", one, "dog", other])
    assert said is not None
    assert f"told apart: {one!r} and {other!r}. If they are one class, give it one name" in said


def test_class_names_that_differ_and_letters_need_no_word() -> None:
    assert names_alike(["A", "a", "cat", "cats", "x2", "x²", "e", "é"]) is None
    many = names_alike([f"{name}{number}" for number in range(5) for name in ("cat", "Cat")])
    assert many is not None
    assert "'cat2' and 'Cat2'; 2 more. If" in many


def test_class_names_that_hardly_differ_are_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_class_folders(tmp_path / "data", ["Cat", "cat", "dog"])
    warnings = build(make_config({"data": str(tmp_path / "data"), "batch_size": 8})).warnings
    assert any("'Cat' and 'cat'" in warning for warning in warnings)


def test_grey_images_are_known_by_their_channels() -> None:
    assert is_grey(images([0, 1, 2] * 5, grey=True))
    assert not is_grey(images([0, 1, 2] * 5))


def test_images_that_are_nearly_black_are_told_of() -> None:
    usual = images([0, 1, 2] * 5)
    assert nearly_black(usual) is None
    told = nearly_black(replace(usual, pixels=usual.pixels // 16)) or ""  # 12 bits in 16
    assert "no pixel is above 15 of 255" in told


def test_a_task_of_colours_on_grey_images_is_told() -> None:
    with_colour = {"tasks": [["rotation", "colour"], "none"], "data": {"name": "digits", "per_class": 4}}
    warnings = build(make_config({**with_colour, "batch_size": 20})).warnings
    assert any("task 'colour' of student 'resnet8_1'" in warning and "grey" in warning for warning in warnings)
    in_colours = {**with_colour, "data": {"name": "synthetic", "image_size": 8, "classes": 4}}
    assert not build(make_config({**in_colours, "batch_size": 20})).warnings


@pytest.mark.parametrize("row", [0, 777])
def test_a_fingerprint_knows_of_every_pixel_label_and_class_name(row: int) -> None:
    one = images([0, 1, 2] * 300)

    def of(some: Images) -> str:
        return fingerprint(some, *channel_statistics(some.pixels))

    assert of(one) == of(Images(one.pixels.clone(), one.labels.clone(), one.class_names))
    pixels = one.pixels.clone()
    pixels[row, 2, 1, 0] ^= 1
    labels = one.labels.clone()
    labels[row] = (labels[row] + 1) % 3
    changed = [
        Images(pixels, one.labels, one.class_names),
        Images(one.pixels, labels, one.class_names),
        Images(one.pixels, one.labels, ("ash", "elm", "fir")),
    ]
    assert len({of(one), *map(of, changed)}) == 4


def test_every_split_has_a_fingerprint_that_knows_of_its_pixels_their_order_labels_and_class_names() -> None:
    train, one = images([0, 1, 2]), images([0] * 300 + [1] * 300)
    pixels, exchanged, labels = one.pixels.clone(), one.pixels.clone(), one.labels.clone()
    pixels[7, 2, 1, 0] ^= 1
    exchanged[[7, 307]] = exchanged[[307, 7]]  # labels, mean, std and the sample are as before
    labels[7] = 1
    changed = [
        Images(pixels, one.labels, one.class_names),
        Images(exchanged, one.labels, one.class_names),
        Images(one.pixels, labels, one.class_names),
        Images(one.pixels, one.labels, ("ash", "elm", "fir")),
    ]
    before = fingerprints(Splits(train, None, one))
    assert list(before) == ["train", "test"]
    assert fingerprints(Splits(train, None, Images(one.pixels.clone(), one.labels, one.class_names))) == before
    for other in changed:
        assert changed_splits(before, fingerprints(Splits(train, None, other))) == ["test"]
        assert changed_splits({}, fingerprints(Splits(train, None, other))) == []  # an earlier version knew none
    assert changed_splits(fingerprints(Splits(train, one, one)), fingerprints(Splits(train, changed[1], one))) == [
        "validation"
    ]


def test_of_large_data_a_fingerprint_knows_of_lines_of_every_image() -> None:
    one = images([0] * 300 + [1] * 300)
    some = {"most": one.pixels.numel() // 2}
    exchanged, between = one.pixels.clone(), one.pixels.clone()
    exchanged[[7, 307]] = exchanged[[307, 7]]
    between[7, 1] ^= 1
    before = fingerprints(Splits(one, None, one), **some)
    for pixels, found in ((exchanged, ["train"]), (between, [])):
        other = Images(pixels, one.labels, one.class_names)
        assert changed_splits(before, fingerprints(Splits(other, None, one), **some)) == found


def test_the_first_classes_are_shown_in_one_short_line() -> None:
    assert some_names(["cat", "dog", "owl"]) == "cat, dog, owl"
    assert some_names(["0", "1", "2", "3"]) == "0, 1, 2, ..."
    assert some_names(["a\nb", "x" * 24, "y" * 999]) == f"a\\nb, {'x' * 24}, {'y' * 21}..."
    assert (
        "images of 10 classes (0, 1, 2, ...); test is"
        in build(make_config({"batch_size": 20, "data": {"per_class": 9}})).data
    )
