"""What a column of labels may hold, and that -1 is no label where it says so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from cohorts import Silent
from odd_files import encode, noise, write_class_folders

from codistill.config.schema import make_config
from codistill.data.classes import in_order
from codistill.data.sources.registry import open_source
from codistill.data.splits import prepare
from codistill.errors import UserError
from codistill.training import trainer
from codistill.training.restore import evaluate_run


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def parquet(labels: Sequence[Any] | pyarrow.Array, split: str = "train", first: int = 0) -> None:
    Path("data").mkdir(exist_ok=True)
    files = [encode(noise(first + seed)) for seed in range(len(labels))]
    pyarrow.parquet.write_table(pyarrow.table({"image": files, "label": labels}), f"data/{split}.parquet")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2, 3], ("1", "2", "3")),
        ([187, 7, 97], ("7", "97", "187")),
        ([3.0, 10.0, 3.0], ("3", "10")),
        (["10", "2", "1"], ("1", "2", "10")),
        (["10", "2", "oak"], ("2", "10", "oak")),
        (["1.5", "1.25", "-2"], ("-2", "1.25", "1.5")),
        (["007", "7", "10"], ("007", "7", "10")),
        (["img10", "img2", "a"], ("a", "img10", "img2")),
        (["zero", "!", "0"], ("!", "0", "zero")),  # one number alone is a word like others
        ([b"oak", b"ash", b"oak"], ("ash", "oak")),
        ([True, False, True], ("False", "True")),
    ],
    ids=repr,
)
def test_classes_are_named_as_one_writes_them_and_numbers_are_in_their_order(
    labels: list[Any], names: tuple[str, ...]
) -> None:
    parquet(labels)
    source = open_source("data")
    assert source.class_names == names
    assert source.warnings == ()
    assert len(source.pixels("train", np.arange(3), None)) == 3
    written = [label.decode() if isinstance(label, bytes) else str(label) for label in labels]
    found = [source.class_names[label] for label in source.labels("train")]
    assert found == [word.removesuffix(".0") for word in written]


def test_class_names_that_a_table_gives_keep_the_order_that_it_gives() -> None:
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["1", "10", "2"]))
    cells = [{"bytes": encode(noise(seed)), "path": None} for seed in range(3)]
    Path("data").mkdir()
    rows = datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 2]}, features=features)
    rows.to_parquet("data/train.parquet")
    source = open_source("data")
    assert source.class_names == ("1", "10", "2")
    assert source.labels("train").tolist() == [0, 1, 2]


def test_the_order_of_words_that_are_no_numbers_is_that_of_their_letters() -> None:
    words = ["b", "Z", "a1", "a10", "a2", "1st", "10th", "2nd", "1e5", "-", "", "\N{ARABIC-INDIC DIGIT ONE}"]
    assert in_order(words) == sorted(words)


@pytest.mark.parametrize(
    ("hidden", "how"),
    [
        ([-1] * 6, "-1"),
        ([-1.0] * 6, "-1"),
        (["-1"] * 6, "-1"),
        (pyarrow.array([None] * 6, pyarrow.int64()), "missing"),
        (pyarrow.array([None, -1] * 3, pyarrow.int64()), "-1 or missing"),
    ],
    ids=["whole numbers", "decimals", "words", "nothing", "both"],
)
def test_a_test_split_without_labels_is_told_as_such_and_can_be_left_out(hidden: Any, how: str) -> None:
    kind = str if hidden[0] == "-1" else float if isinstance(hidden[0], float) else int
    parquet([kind(number % 2) for number in range(24)])
    parquet(hidden, "test", first=100)
    with pytest.raises(UserError) as told:
        open_source("data")
    assert f"Split 'test' of data 'data' has no labels: all 6 are {how}." in str(told.value)
    assert "data.ignore_splits=test" in str(told.value)
    config = make_config({"data": {"name": "./data", "ignore_splits": "test"}})
    assert config.data.ignore_splits == ["test"]
    splits = prepare(open_source("data", ignore_splits=config.data.ignore_splits), test=0.25)
    assert [len(part) for part in splits if part is not None] == [16, 2, 6]
    assert splits.train.class_names == ("0", "1")


def test_a_csv_file_of_test_images_without_labels_is_told_as_such() -> None:
    write_class_folders("data/images", ["x"], count=8)
    lines = [f"images/x/{number}.png,{'-1' if number > 5 else number % 2}" for number in range(8)]
    Path("data", "train.csv").write_text("\n".join(["path,label", *lines[:6]]))
    Path("data", "test.csv").write_text("\n".join(["path,label", *lines[6:]]))
    with pytest.raises(UserError, match=r"Split 'test' of data 'data' has no labels: all 2 are -1"):
        open_source("data")
    Path("data", "test.csv").write_text("\n".join(["path,label", *lines[6:]]).replace("-1", ""))
    with pytest.raises(UserError, match=r"Split 'test' of data 'data' has no labels: all 2 are missing"):
        open_source("data")
    assert open_source("data", ignore_splits=["test"]).splits == ("train",)


def test_a_split_is_validation_by_each_of_its_names_and_stands_in_the_configuration_only_if_it_is_left_out() -> None:
    for name in ("val", "valid", "validation"):
        config = make_config({"data": {"name": "x", "ignore_splits": [name]}})
        assert config.data.ignore_splits == ["validation"]
        assert make_config({**config.model_dump(mode="json")}) == config
    assert "ignore_splits" not in make_config({}).to_yaml()


@pytest.mark.parametrize("labels", [[-1, 0, 1], ["-1", "ash", "oak"]], ids=["numbers", "words"])
def test_scattered_labels_of_minus_one_are_warned_of(labels: list[Any]) -> None:
    parquet(labels * 4)
    (warning,) = open_source("data").warnings
    assert "'-1' is a class of 4 images" in warning
    assert "remove these rows" in warning


def test_minus_one_beside_one_alone_is_a_class() -> None:
    parquet([-1, 1] * 4)
    assert open_source("data").warnings == ()


def test_some_labels_of_minus_one_in_test_are_not_told_as_a_class_that_train_lacks_alone() -> None:
    parquet([0, 1] * 4)
    parquet([0, 1, -1], "test", first=100)
    with pytest.raises(UserError, match=r"If -1 means that an image has no label, remove these rows"):
        prepare(open_source("data"))


def test_a_class_that_test_lacks_is_told_with_the_way_to_leave_test_out() -> None:
    parquet([0, 1, 2] * 4)
    parquet([0, 1], "test", first=100)
    with pytest.raises(UserError, match=r"no image of 1 of the classes: '2'.* data.ignore_splits=test"):
        prepare(open_source("data"))


def test_damaged_images_do_not_make_labels_of_bytes_an_image_column() -> None:
    Path("data").mkdir()
    files = [encode(noise(seed))[:40] if seed == 0 else encode(noise(seed)) for seed in range(4)]
    pyarrow.parquet.write_table(pyarrow.table({"image": files, "label": [b"a", b"b"] * 2}), "data/train.parquet")
    source = open_source("data")
    assert source.class_names == ("a", "b")
    assert len(source.pixels("train", np.array([1, 2]), None)) == 2


@pytest.mark.parametrize("folder", ["data", "data/train"])
def test_a_single_class_folder_is_told_as_one_class(folder: str) -> None:
    write_class_folders(folder, ["cat"], count=4)
    with pytest.raises(UserError, match=r"at least two classes; train has images of 1 \('cat'\)"):
        open_source("data")
    write_class_folders("data/test", ["cat"], count=4)


@pytest.mark.parametrize("kind", ["class folders", "float labels"])
def test_a_run_whose_classes_were_in_the_order_of_letters_is_evaluated_with_them(kind: str, tmp_path: Path) -> None:
    if kind == "class folders":
        write_class_folders("data", ["1", "2", "10"], count=8)
    else:
        parquet([float(number % 3 + 9) for number in range(24)])
    settings = {"method": "independent", "tasks": "none", "epochs": 1, "batch_size": 4}
    config = make_config({"students": {"a": "resnet8", "b": "resnet8"}, "data": "./data", **settings})
    assert train_as_earlier(config, tmp_path / "run") == (
        ["1", "10", "2"] if kind == "class folders" else ["9.0", "10.0", "11.0"]
    )
    accuracy, summary = evaluate_run(tmp_path / "run", "cpu")
    assert accuracy._asdict() == summary["test_accuracy"]


def train_as_earlier(config: Any, run: Path) -> list[str]:
    """A run as versions trained it that knew no order of numbers. Returns the names of its classes."""
    from codistill.training import build

    def open_as_earlier(*given: Any, **how: Any) -> Any:
        source = open_source(*given, **how).as_earlier()
        assert source is not None
        return source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "open_source", open_as_earlier)
        trainer.train(config, run, Silent())
    from codistill import load_student

    names: list[str] = load_student(run / "students" / "a.safetensors")[1]["class_names"]
    return names
