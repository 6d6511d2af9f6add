"""No image of test is trained on, whatever classes and files are called."""

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from odd_files import encode, noise, write_class_folders, write_parquet

from codistill.data.sources.registry import open_source
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


@pytest.mark.parametrize("test", ["Test", "TEST"])
def test_images_that_all_tell_their_split_some_in_capitals_are_refused(test: str) -> None:
    write_class_folders("data", ["boat", "car"], 4)
    for image in Path("data").rglob("*.png"):
        image.rename(image.with_name(f"{test if image.stem == '0' else 'train'}_{image.name}"))
    with pytest.raises(UserError, match=rf"'{test}_0.png' of 'data/\w+/{test}_0.png' would not be taken for a split"):
        open_source("./data")


def test_splits_may_lie_deeper_and_have_letters_of_patterns_in_their_names() -> None:
    write_class_folders("data/all [1]/train", ["boat", "train"], 5)
    write_class_folders("data/all [1]/val [new]", ["boat", "train"], 2)
    source = open_source("./data")
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 10, "validation": 4}


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "Test"), ("TRAIN", "TEST"), ("Training", "Testing"), ("train", "Test")]
)
def test_splits_in_capitals_are_splits(train: str, test: str) -> None:
    write_class_folders(f"data/{train}", ["boat", "car"], 5)
    write_class_folders(f"data/{test}", ["boat", "car"], 3)
    write_class_folders("data/Validation", ["boat", "car"], 2)
    source = open_source("./data")
    found = {split: len(source.labels(split)) for split in source.splits}
    assert found == {"train": 10, "validation": 4, "test": 6}
    assert source.warnings == ()


def test_a_class_in_capitals_that_is_called_like_a_split_is_a_class() -> None:
    write_class_folders("data", ["boat", "Test"], 4)
    source = open_source("./data")
    assert source.class_names == ("Test", "boat")
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 8}


@pytest.mark.parametrize("test", ["Test.parquet", "TEST/0.parquet", "my_Test.parquet"])
def test_files_of_a_split_in_capitals_are_refused_and_not_trained_on(test: str) -> None:
    columns = {"img": [{"bytes": encode(noise(seed)), "path": None} for seed in range(4)], "label": [0, 1] * 2}
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["boat", "car"])}
    for name in ("train.parquet", test):
        write_parquet(columns, features, Path("data", name))
    with pytest.raises(UserError, match=r"would not be taken for a split, for its capitals\. Call it '.*test"):
        open_source("./data")


def test_a_table_of_a_split_in_capitals_is_the_split() -> None:
    write_class_folders("data/images", ["boat", "car"], 4)
    for name, numbers in (("Train.csv", (0, 1, 2)), ("Test.CSV", (3,))):
        lines = [f"images/{kind}/{number}.png,{kind}" for kind in ("boat", "car") for number in numbers]
        Path("data", name).write_text("\n".join(["file,label", *lines]))
    source = open_source("./data")
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 6, "test": 2}


def splits_without_classes() -> None:
    write_class_folders("data", ["train", "test"], 4)


def splits_in_capitals_without_classes() -> None:
    write_class_folders("data", ["Train", "Test"], 4)


def classes_at_two_depths() -> None:
    write_class_folders("data/train", ["boat", "car"], 4)
    write_class_folders("data/train/test", ["boat", "car"], 2)


@pytest.mark.parametrize("make", [splits_without_classes, splits_in_capitals_without_classes, classes_at_two_depths])
def test_splits_that_hold_no_class_folders_alone_are_refused(make: Callable[[], None]) -> None:
    make()
    with pytest.raises(UserError, match="Images should lie in two class folders or more, all at one depth"):
        open_source("./data")
