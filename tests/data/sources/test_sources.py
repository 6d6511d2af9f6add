"""Digits, Parquet folders and image folders, good and bad."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codistill.data.sources.registry import open_source
from codistill.data.splits import prepare
from codistill.errors import UserError

datasets = pytest.importorskip("datasets")


def png(seed: int, size: tuple[int, int] = (8, 8)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(folder: Path, split: str, images: list[bytes | None], labels: list[int], classes: int = 3) -> None:
    """The layout of CIFAR-100 on the hub: img, fine_label, coarse_label."""
    features = datasets.Features(
        img=datasets.Image(),
        fine_label=datasets.ClassLabel(names=[f"class{i}" for i in range(classes)]),
        coarse_label=datasets.ClassLabel(names=["all"]),
    )
    cells = [image and {"bytes": image, "path": None} for image in images]
    columns = {"img": cells, "fine_label": labels, "coarse_label": [0] * len(labels)}
    folder.mkdir(parents=True, exist_ok=True)
    rows = datasets.Dataset.from_dict(columns, features=features)
    rows.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = [i % 3 for i in range(30)]
    write_parquet(tmp_path / "data", "train", [png(i) for i in range(30)], labels)
    write_parquet(tmp_path / "data", "test", [png(100 + i) for i in range(6)], labels[:6])
    return tmp_path / "data"


def test_digits_are_split_with_every_digit_on_both_sides() -> None:
    splits = prepare(open_source("digits"))
    assert [len(part.labels) for part in splits if part] == [1078, 120, 599]
    assert all(set(part.labels.tolist()) == set(range(10)) for part in splits if part)
    assert splits.train.pixels.shape[1:] == (8, 8, 3)
    assert splits.train.pixels.dtype == torch.uint8


def test_a_parquet_folder_in_the_public_layout_is_read_pixel_by_pixel(folder: Path) -> None:
    splits = prepare(open_source(str(folder)), validation=0.2)
    assert [len(part.labels) for part in splits if part] == [24, 6, 6]
    assert splits.train.class_names == ("class0", "class1", "class2")
    with Image.open(io.BytesIO(png(100))) as image:
        assert torch.equal(splits.test.pixels[0], torch.from_numpy(np.array(image)))


def test_classes_are_cut_in_all_splits_and_training_images_in_train_only(folder: Path) -> None:
    splits = prepare(open_source(str(folder)), classes=2, per_class=3, validation=0.2)
    assert torch.bincount(splits.train.labels).tolist() == [3, 3]
    assert torch.bincount(splits.test.labels).tolist() == [2, 2]
    assert len(splits.train.class_names) == 2


def test_the_test_images_do_not_depend_on_how_train_is_cut(folder: Path) -> None:
    source = open_source(str(folder))
    one, other = prepare(source, validation=0.2), prepare(source, per_class=2, validation=0, seed=0)
    assert torch.equal(one.test.pixels, other.test.pixels)
    assert other.validation is None


def test_validation_and_test_are_carved_where_the_data_has_train_only(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data", "train", [png(i) for i in range(30)], [i % 3 for i in range(30)])
    splits = prepare(open_source(str(tmp_path / "data")), validation=0.25)
    assert [len(part.labels) for part in splits if part] == [18, 6, 6]


def test_another_label_column_is_chosen_by_name(folder: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown label column .* 'coarse'.*Did you mean 'coarse_label'"):
        open_source(str(folder), label="coarse")
    assert open_source(str(folder), label="coarse_label").class_names == ("all",)


def test_a_folder_of_class_folders_is_read(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(4):
                (tmp_path / "data" / split / name / f"{i}.png").write_bytes(png(i, (8, 8 + i)))
    source = open_source(str(tmp_path / "data"))
    assert source.class_names == ("cat", "dog")
    with pytest.raises(UserError, match=r"images of different sizes .* Set data.image_size"):
        prepare(source, validation=0.25)
    assert prepare(source, validation=0.25, image_size=6).train.pixels.shape == (6, 6, 6, 3)


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'/no/where' does not exist"):
        open_source("/no/where")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty' is empty: it should hold Parquet files"):
        open_source(str(tmp_path / "empty"))


def test_a_hub_name_that_cannot_be_found_says_that_no_such_folder_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"no such local folder.*'someone/nothing'.*Couldn't reach the hub"):
        open_source("someone/nothing")


def test_an_image_that_cannot_be_decoded_is_named_by_split_and_row(tmp_path: Path) -> None:
    images = [png(i) for i in range(12)]
    images[7] = images[7][:60]
    write_parquet(tmp_path / "data", "train", images, [i % 3 for i in range(12)])
    with pytest.raises(UserError, match=r"^Data .* split 'train', row 7: the image cannot be decoded"):
        prepare(open_source(str(tmp_path / "data")), validation=0.25)


def test_all_images_that_cannot_be_decoded_are_named_at_once(tmp_path: Path) -> None:
    images = [png(i)[:60] if i % 2 else png(i) for i in range(48)]
    write_parquet(tmp_path / "data", "train", images, [i % 3 for i in range(48)])
    with pytest.raises(UserError) as told:
        prepare(open_source(str(tmp_path / "data")), validation=0, test=0.25)
    head, *lines, more = str(told.value).splitlines()
    assert head == f"{len(lines) + int(more.split()[2])} images cannot be read:"
    assert len(lines) == len(set(lines)) == 10
    assert all("the image cannot be decoded" in line for line in lines)


def test_every_broken_image_of_a_table_is_counted_whatever_rows_are_chosen(tmp_path: Path) -> None:
    train, held = [png(i) for i in range(30)], [png(50 + i) for i in range(6)]
    for row in (3, 9, 15):
        train[row] = train[row][:60]
    held[3] = held[3][:60]
    write_parquet(tmp_path / "data", "train", train, [i % 3 for i in range(30)])
    write_parquet(tmp_path / "data", "test", held, [i % 3 for i in range(6)])
    source = str(tmp_path / "data")
    for chosen in ({}, {"per_class": 6}, {"classes": 2}, {"validation": 0.0}, {"validation": 0.5}):
        broken = {f"split 'train', row {row}:" for row in (3, 9, 15)} | {"split 'test', row 3:"}
        with pytest.raises(UserError) as told:
            prepare(open_source(source), **chosen)
        head, *lines = str(told.value).splitlines()
        assert head == "4 images cannot be read:"
        assert len(lines) == 4
        assert all(any(place in line for line in lines) for place in broken)


def test_every_broken_image_of_a_folder_is_counted_whatever_rows_are_chosen(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            (tmp_path / "data" / name / f"{i}.png").write_bytes(png(i)[:60] if i in (4, 7) else png(i))
    for chosen in ({}, {"per_class": 4}, {"validation": 0.4}):
        with pytest.raises(UserError) as told:
            prepare(open_source(str(tmp_path / "data")), **chosen)
        head, *lines = str(told.value).splitlines()
        assert head == "4 images cannot be read:"
        assert len(lines) == len(set(lines)) == 4


def test_images_that_are_not_asked_for_are_not_decoded_while_the_others_can_be(tmp_path: Path) -> None:
    images = [png(i) for i in range(30)]
    images[15] = images[15][:60]
    write_parquet(tmp_path / "data", "train", images, [i % 3 for i in range(30)])
    decoded: list[tuple[int, int]] = []
    source = open_source(str(tmp_path / "data"), progress=lambda done, total: decoded.append((done, total)))
    rows = np.arange(15)
    assert len(source.pixels("train", rows, None)) == 15
    assert decoded[-1] == (15, 15)
    with pytest.raises(UserError, match=r"^Data .* row 15: the image cannot be decoded"):
        source.pixels("train", np.arange(14, 18), None)
    assert decoded[-1] == (12, 12)  # row 14 was decoded before, 15 to 17 now, and 18 to 29 for the count


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data", "train", [png(0), None, *map(png, range(10))], [i % 3 for i in range(12)])
    with pytest.raises(UserError, match="split 'train', row 1: there is no image"):
        prepare(open_source(str(tmp_path / "data")), validation=0.25)


def test_images_of_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path) -> None:
    from codistill.data.sources.hf_datasets import _decode

    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 256, 65535]], dtype=np.uint16)).save(buffer, "PNG")
    assert _decode({"bytes": buffer.getvalue(), "path": None}, "here").tolist() == [[[0] * 3, [1] * 3, [255] * 3]]


def test_images_of_one_class_alone_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data", "train", [png(i) for i in range(12)], [1] * 12)
    with pytest.raises(UserError, match="at least two classes; train has images of 1"):
        prepare(open_source(str(tmp_path / "data")))


def test_a_class_that_one_split_lacks_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data", "train", [png(i) for i in range(12)], [i % 3 for i in range(12)])
    write_parquet(tmp_path / "data", "test", [png(i) for i in range(4)], [0, 1, 0, 1])
    with pytest.raises(UserError, match="Split 'test' has no image of 1 of the classes: 'class2'"):
        prepare(open_source(str(tmp_path / "data")))


def test_labels_that_are_plain_numbers_or_words_become_classes(tmp_path: Path) -> None:
    rows = {"picture": [{"bytes": png(i), "path": None} for i in range(6)], "label": ["oak", "elm", "ash"] * 2}
    features = datasets.Features(picture=datasets.Image(), label=datasets.Value("string"))
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "data" / "train.parquet"))
    source = open_source(str(tmp_path / "data"))
    assert source.class_names == ("ash", "elm", "oak")
    assert source.labels("train").tolist() == [2, 1, 0, 2, 1, 0]


def test_a_similar_folder_is_named_where_a_name_is_neither_here_nor_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(name: str) -> None:
        raise ConnectionError("no route")

    (tmp_path / "photos" / "pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    for given, meant in (("photo", "photos"), ("photos/pet", "photos/pets"), ("pets", "photos/pets")):
        with pytest.raises(UserError, match=rf"'{given}' could not be loaded: no route. Did you mean '{meant}'\?"):
            open_source(given)
