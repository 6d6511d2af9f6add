"""No image of test is trained on, whatever classes and files are called."""

from collections.abc import Callable
from pathlib import Path

import pytest
from odd_files import write_class_folders

from codistill.data import open_source
from codistill.errors import UserError


def split_folders(*classes: str) -> None:
    write_class_folders("data/train", list(classes), 5)
    write_class_folders("data/test", list(classes), 3)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", ["train", "test", "crash test", "train_station", "val", "eval-1"])
def test_a_class_that_is_called_like_a_split_is_a_class_of_each_split(name: str) -> None:
    split_folders("boat", name)
    source = open_source("./data")
    assert source.class_names == tuple(sorted(["boat", name]))
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 10, "test": 6}


@pytest.mark.parametrize("name", ["train", "test", "crash test", "train_station"])
def test_a_class_that_is_called_like_a_split_is_a_class_where_there_are_no_splits(name: str) -> None:
    write_class_folders("data", ["boat", "car", name], 4)
    source = open_source("./data")
    assert source.class_names == tuple(sorted(["boat", "car", name]))
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 12}


def test_a_file_that_is_called_like_a_split_is_an_image_of_its_class() -> None:
    write_class_folders("data", ["boat", "car"], 4)
    Path("data/car/0.png").rename("data/car/test_0.png")
    assert {split: len(open_source("./data").labels(split)) for split in open_source("./data").splits} == {"train": 8}


def test_files_that_all_tell_their_split_are_split_by_it() -> None:
    write_class_folders("data", ["boat", "car"], 4)
    for image in Path("data").rglob("*.png"):
        image.rename(image.with_name(f"{'test' if image.stem == '0' else 'train'}_{image.name}"))
    source = open_source("./data")
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 6, "test": 2}


def test_splits_may_lie_deeper_and_have_letters_of_patterns_in_their_names() -> None:
    write_class_folders("data/all [1]/train", ["boat", "train"], 5)
    write_class_folders("data/all [1]/val [new]", ["boat", "train"], 2)
    source = open_source("./data")
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 10, "validation": 4}


def splits_without_classes() -> None:
    write_class_folders("data", ["train", "test"], 4)


def classes_at_two_depths() -> None:
    write_class_folders("data/train", ["boat", "car"], 4)
    write_class_folders("data/train/test", ["boat", "car"], 2)


@pytest.mark.parametrize("make", [splits_without_classes, classes_at_two_depths])
def test_splits_that_hold_no_class_folders_alone_are_refused(make: Callable[[], None]) -> None:
    make()
    with pytest.raises(UserError, match="Images should lie in two class folders or more, all at one depth"):
        open_source("./data")
