"""The same picture in train and in test is told before training."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from odd_files import encode, noise, write_class_folders, write_parquet

from codistill.config.schema import make_config
from codistill.data import leakage
from codistill.data.images import Images, Splits
from codistill.data.sources.synthetic import Synthetic
from codistill.training.build import build


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def told(**data: Any) -> list[str]:
    settings = {
        "students": ["resnet8", "resnet8"],
        "method": "independent",
        "tasks": "none",
        "epochs": 1,
        "batch_size": 4,
    }
    warnings = build(make_config({**settings, "data": {"name": "./data", "validation": 0, **data}})).warnings
    return [warning for warning in warnings if "training image" in warning]


def two_splits(test: str = "test") -> None:
    """Forty images in all, none of them twice."""
    write_class_folders("data/train", count=10)
    write_class_folders(f"data/{test}", ["owl", "owl", "cat", "dog"], count=10)
    shutil.rmtree(f"data/{test}/owl")


def folders() -> None:
    two_splits()
    shutil.copy("data/train/cat/3.png", "data/test/cat/0.png")
    (Path("data/test/dog") / "copy.bmp").write_bytes(encode(noise(15), "BMP"))  # train/dog/5.png in another format


def table() -> None:
    for split, seeds in (("train", [*range(20)]), ("test", [3, *range(20, 37), 15, 40, 41, 42])):
        cells = [{"bytes": encode(noise(seed)), "path": None} for seed in seeds]
        features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        write_parquet({"img": cells, "label": [0, 1] * (len(seeds) // 2)}, features, f"data/{split}.parquet")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (folders, "2 of 21 test images are training images, too, such as 'test/cat/0.png', which is 'train/cat/3.png'"),
        (table, "2 of 22 test images are training images, too, such as row 0 of split 'test', which is row 3 of split"),
    ],
)
def test_test_images_that_are_trained_on_are_counted_and_one_is_named(write: Callable[[], None], words: str) -> None:
    write()
    (warning,) = told()
    assert words in warning
    assert "Keep each picture in one split" in warning


def test_pictures_that_are_there_once_need_no_word() -> None:
    two_splits()
    assert told() == []


def test_validation_images_are_looked_for_too_also_those_that_are_held_out_of_train() -> None:
    two_splits()
    for name in ("cat", "dog"):
        for number in range(10):
            shutil.copy(f"data/train/{name}/{number}.png", f"data/train/{name}/again{number}.png")
    (warning,) = told(validation=0.05)
    assert warning.startswith("2 of 2 validation images are training images, too, such as 'train/cat/")


def test_only_equal_pixels_count_and_large_data_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.zeros(200, dtype=torch.int64)
    for shape in ((5, 7), (8, 8)):  # words of eight bytes with a rest, and without
        train = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (200, *shape, 3), dtype=np.uint8))
        test = train.clone()
        test[:, -1, -1, -1] += 128
        test[7] = train[9]
        splits = Splits(Images(train, labels, ("a",)), None, Images(test, labels, ("a",)))
        (warning,) = leakage.repeated_pictures(splits, Synthetic())
        assert warning.startswith("1 of 200 test images is a training image, too, such as row 7, which is row 9.")
    monkeypatch.setattr(leakage, "MOST_BYTES", train.numel())
    assert leakage.repeated_pictures(splits, Synthetic()) == []
