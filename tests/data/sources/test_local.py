"""Local data of every kind: the same images, read to the same pixels, with the names of their classes."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch
from odd_files import encode, noise, write_class_folders, write_parquet
from PIL import Image

from codistill import load_student
from codistill.config.schema import make_config
from codistill.data.sources.registry import open_source
from codistill.data.splits import prepare
from codistill.data.splits import test_origin as origin_of_test
from codistill.data.transforms.decode import decode
from codistill.errors import UserError
from codistill.training import trainer

CLASSES = ["ash", "oak"]
GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
WIDE = Image.fromarray((np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8))
ODD = {
    "grey": encode(GREY),
    "grey with alpha": encode(Image.merge("LA", (GREY, GREY))),
    "alpha": encode(Image.merge("RGBA", (*noise(1).split(), GREY))),
    "palette": encode(noise(2).convert("P", palette=Image.Palette.ADAPTIVE)),
    "16 bits": encode(WIDE),
    "one bit": encode(GREY.convert("1")),
    "CMYK": encode(noise(3).convert("CMYK"), "JPEG"),
    "a single pixel": encode(noise(4, size=(1, 1))),
}
# The single pixel is enlarged. Of each class as many, and as many more, so that parts can be held out.
FILES = [*ODD.values(), *(encode(noise(seed)) for seed in range(10, 22))]
LABELS = [CLASSES[place % 2] for place in range(len(FILES))]


def ending(content: bytes) -> str:
    return "jpg" if content[:2] == b"\xff\xd8" else "png"


def class_folders(split: str, files: list[bytes], labels: list[str]) -> None:
    for number, (content, label) in enumerate(zip(files, labels, strict=True)):
        folder = Path("data", split, label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.{ending(content)}").write_bytes(content)


def rows_of(files: list[bytes], labels: list[str]) -> datasets.Dataset:
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=CLASSES))
    cells = [{"bytes": content, "path": None} for content in files]
    columns = {"image": cells, "label": [CLASSES.index(label) for label in labels]}
    return datasets.Dataset.from_dict(columns, features=features)


def parquet(split: str, files: list[bytes], labels: list[str]) -> None:
    Path("data").mkdir(exist_ok=True)
    rows_of(files, labels).to_parquet(f"data/{split}.parquet")


def arrow(split: str, files: list[bytes], labels: list[str]) -> None:
    rows_of(files, labels).save_to_disk("saved")
    Path("data").mkdir(exist_ok=True)
    (stream,) = Path("saved").glob("*.arrow")
    stream.rename(f"data/{split}.arrow")


def saved(split: str, files: list[bytes], labels: list[str]) -> None:
    try:
        splits = dict(datasets.load_from_disk("data"))
        splits = {name: datasets.Dataset.from_dict(rows.to_dict(), rows.features) for name, rows in splits.items()}
    except FileNotFoundError:
        splits = {}
    datasets.DatasetDict({**splits, split: rows_of(files, labels)}).save_to_disk("data")


def tar(split: str, files: list[bytes], labels: list[str]) -> None:
    Path("data").mkdir(exist_ok=True)
    with tarfile.open(f"data/{split}-000.tar", "w") as shard:
        for number, (content, label) in enumerate(zip(files, labels, strict=True)):
            for name, member in (("img", content), ("json", json.dumps({"label": label, "id": number}).encode())):
                # one ending for all, as such shards have: Pillow looks into the file, not at its name
                info = tarfile.TarInfo(f"{number:05}.{'png' if name == 'img' else name}")
                info.size = len(member)
                shard.addfile(info, io.BytesIO(member))


def csv(split: str, files: list[bytes], labels: list[str]) -> None:
    lines = ["file,label"]
    for number, (content, label) in enumerate(zip(files, labels, strict=True)):
        path = Path("data", "images", f"{split}-{number:02}.{ending(content)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        lines.append(f"images/{path.name},{label}")
    Path("data", f"{split}.csv").write_text("\n".join(lines))


KINDS: dict[str, Callable[[str, list[bytes], list[str]], None]] = {
    "class folders": class_folders,
    "parquet": parquet,
    "arrow": arrow,
    "saved": saved,
    "tar": tar,
    "csv": csv,
}
SINGLE = {"parquet": "train.parquet", "arrow": "train.arrow", "tar": "train-000.tar", "csv": "train.csv"}


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def expected_pixels() -> set[bytes]:
    """Of the images of 8x8 pixels."""
    return {decode(io.BytesIO(content)).tobytes() for content in FILES if content is not ODD["a single pixel"]}


@pytest.mark.parametrize("kind", KINDS)
def test_odd_images_of_every_kind_of_data_have_the_pixels_that_a_viewer_shows(kind: str) -> None:
    KINDS[kind]("train", FILES, LABELS)
    source = open_source("./data")
    assert source.class_names == ("ash", "oak")
    assert source.splits == ("train",)
    pixels = source.pixels("train", np.arange(len(FILES)), 8)
    assert len(expected_pixels()) == len(FILES) - 1
    found = {image.numpy().tobytes(): label for image, label in zip(pixels, source.labels("train"), strict=True)}
    assert expected_pixels() <= found.keys()
    for content, label in zip(FILES, LABELS, strict=True):
        if content is not ODD["a single pixel"]:
            assert source.class_names[found[decode(io.BytesIO(content)).tobytes()]] == label
    (single,) = [image for image in pixels if image.numpy().tobytes() not in expected_pixels()]
    assert (single == single[0, 0]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["val", "validation"])
def test_splits_are_found_by_their_names(kind: str, name: str) -> None:
    for split, start in (("train", 10), ("test", 20), (name, 30)):
        KINDS[kind](split, [encode(noise(seed)) for seed in range(start, start + 8)], CLASSES * 4)
    splits = prepare(open_source("data"))
    assert [len(part) for part in splits if part is not None] == [8, 8, 8]
    for part, start in zip(splits, (10, 30, 20), strict=True):
        assert part is not None
        assert {image.numpy().tobytes() for image in part.pixels} == {
            np.array(noise(seed)).tobytes() for seed in range(start, start + 8)
        }


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_can_be_left_out_of_data_of_every_kind(kind: str) -> None:
    for split, start in (("train", 10), ("test", 20), ("val", 30)):
        KINDS[kind](split, [encode(noise(seed)) for seed in range(start, start + 8)], CLASSES * 4)
    with_all = open_source("data")
    assert with_all.splits == ("train", "validation", "test")
    without = open_source("data", ignore_splits=["test"])
    assert without.splits == ("train", "validation")
    assert without.class_names == with_all.class_names
    assert without.warnings == ()
    splits = prepare(without)
    assert {image.numpy().tobytes() for image in splits.test.pixels} == {
        np.array(noise(seed)).tobytes() for seed in range(30, 38)
    }
    assert origin_of_test(without, 0.2, ["test"]) == "the data's validation split, for its test split is left out"
    alone = open_source("data", ignore_splits=["test", "validation"])
    assert alone.splits == ("train",)
    assert origin_of_test(alone, 0.2, ["test"]).endswith("held out, for the data's test split is left out")


def test_a_split_can_be_left_out_of_embedded_data() -> None:
    left = open_source("digits", ignore_splits=["test"])
    assert left.splits == ("train",)
    assert len(prepare(left).test) == pytest.approx(0.2 * len(left.labels("train")), abs=10)
    with pytest.raises(UserError, match=r"ignore_splits=validation: data 'digits' has no split 'validation'"):
        open_source("digits", ignore_splits=["validation"])


def test_a_split_that_is_left_out_is_not_read() -> None:
    for kind in ("csv", "parquet"):
        KINDS[kind]("train", [encode(noise(seed)) for seed in range(8)], CLASSES * 4)
        Path(f"{kind} data").mkdir()
        Path("data").rename(Path(f"{kind} data", "data"))
    Path("csv data", "data", "test.csv").write_text("file\nno/such/file.png\n")
    with pytest.raises(UserError, match=r"test.csv', line 2: there is no file"):
        open_source("csv data/data")
    assert open_source("csv data/data", ignore_splits=["test"]).splits == ("train",)
    table = pyarrow.table({"id": [1, 2]})
    pyarrow.parquet.write_table(table, "parquet data/data/test.parquet")
    with pytest.raises(UserError, match="could not be loaded"):
        open_source("./parquet data/data")
    assert open_source("./parquet data/data", ignore_splits=["test"]).splits == ("train",)


def test_class_folders_of_a_split_that_is_left_out_are_not_told_as_files_left_out() -> None:
    class_folders("train", [encode(noise(seed)) for seed in range(8)], CLASSES * 4)
    class_folders("test", [encode(noise(seed)) for seed in range(8, 10)], ["ash", "elm"])
    with pytest.raises(UserError, match=r"'train' has no image of 1 of the classes: 'elm'"):
        prepare(open_source("data"))
    assert open_source("data", ignore_splits=["test"]).warnings == ()
    Path("data", "train", "notes.txt").write_text("about images")
    (warning,) = open_source("data", ignore_splits=["test"]).warnings
    assert "1 .txt, such as train/notes.txt" in warning


@pytest.mark.parametrize("kind", ["class folders", "tar", "csv"])
def test_classes_that_are_numbers_are_in_the_order_of_numbers_in_data_of_every_kind(kind: str) -> None:
    words = ["10", "2", "oak", "1"] * 2
    KINDS[kind]("train", [encode(noise(seed)) for seed in range(8)], words)
    source = open_source("data")
    assert source.class_names == ("1", "2", "10", "oak")
    assert sorted(source.class_names[label] for label in source.labels("train")) == sorted(words)
    pixels = [image.numpy().tobytes() for image in source.pixels("train", np.arange(8), None)]
    of_file = {np.array(noise(seed)).tobytes(): word for seed, word in enumerate(words)}
    assert [of_file[image] for image in pixels] == [source.class_names[label] for label in source.labels("train")]


def test_saved_splits_that_are_none_of_the_three_are_told_and_two_that_validate_are_refused() -> None:
    for split in ("train", "unlabelled"):
        saved(split, [encode(noise(seed)) for seed in range(4)], CLASSES * 2)
    assert open_source("data").warnings == ("Splits of data 'data' that are not used: unlabelled.",)
    for split in ("val", "validation"):
        saved(split, [encode(noise(seed)) for seed in range(4)], CLASSES * 2)
    with pytest.raises(UserError, match="the splits 'validation' and 'val', which both validate"):
        open_source("data")


@pytest.mark.parametrize("kind", SINGLE)
def test_reading_a_local_file_sends_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[None] = []
    monkeypatch.setattr(datasets.load, "get_session", lambda: sessions.append(None))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    KINDS[kind]("train", [encode(noise(seed)) for seed in range(4)], CLASSES * 2)
    open_source(f"data/{SINGLE[kind]}")
    assert sessions == []


@pytest.mark.parametrize("kind", SINGLE)
def test_a_single_file_is_given_by_its_name_and_split_by_the_shares_asked_for(kind: str) -> None:
    KINDS[kind]("train", [encode(noise(seed)) for seed in range(40)], CLASSES * 20)
    splits = prepare(open_source(f"data/{SINGLE[kind]}"), test=0.25, validation=0.2)
    assert [len(part) for part in splits if part is not None] == [24, 6, 10]
    assert all(torch.bincount(part.labels).unique().numel() == 1 for part in splits if part is not None)
    again = prepare(open_source(f"data/{SINGLE[kind]}"), test=0.25, validation=0)
    assert torch.equal(again.test.pixels, splits.test.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_student_knows_the_names_of_its_classes(kind: str, tmp_path: Path) -> None:
    files = [encode(noise(seed)) for seed in range(20)]
    KINDS[kind]("train", files, ["eine Ulme", "ash"] * 10 if kind == "csv" else ["oak", "ash"] * 10)
    settings = {"method": "independent", "tasks": "none", "epochs": 1, "batch_size": 4}
    config = make_config({"students": {"a": "resnet8", "b": "resnet8"}, "data": "./data", **settings})
    from cohorts import Silent

    trainer.train(config, tmp_path / "run", Silent())
    _, facts = load_student(tmp_path / "run" / "students" / "a.safetensors")
    assert facts["class_names"] == (["ash", "eine Ulme"] if kind == "csv" else ["ash", "oak"])


def test_numbers_in_cls_files_are_classes() -> None:
    Path("data").mkdir()
    with tarfile.open("data/shard.tar", "w") as shard:
        for number in range(6):
            for name, content in (("png", encode(noise(number))), ("cls", str(10 * (number % 3)).encode())):
                info = tarfile.TarInfo(f"{number}.{name}")
                info.size = len(content)
                shard.addfile(info, io.BytesIO(content))
    source = open_source("data")
    assert source.class_names == ("0", "10", "20")
    assert source.labels("train").tolist() == [0, 1, 2, 0, 1, 2]


CONTENTS = [encode(noise(seed)) for seed in range(8)]
STRUCT = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
NO_PATHS = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.null()})


@pytest.mark.parametrize(
    "cells",
    [
        pyarrow.array(CONTENTS),
        pyarrow.array(CONTENTS, pyarrow.large_binary()),
        pyarrow.array([{"bytes": content, "path": "1.png"} for content in CONTENTS], STRUCT),
        pyarrow.array([{"bytes": content, "path": None} for content in CONTENTS], NO_PATHS),
        pyarrow.array([{"bytes": content} for content in CONTENTS]),
        pyarrow.array([{"bytes": content, "path": "1.png", "width": 8} for content in CONTENTS]),
        pyarrow.array([{"file": {"bytes": content, "path": None}} for content in CONTENTS]),
    ],
    ids=[
        "bytes",
        "large bytes",
        "bytes and paths",
        "bytes and no paths",
        "bytes in a field",
        "bytes among other fields",
        "bytes in a field of a field",
    ],
)
def test_parquet_of_ones_own_may_hold_the_bytes_of_files(cells: pyarrow.Array) -> None:
    Path("data").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"picture": cells, "label": CLASSES * 4}), "data/train.parquet")
    for name in ("data", "data/train.parquet"):
        source = open_source(name)
        assert source.class_names == ("ash", "oak")
        pixels = source.pixels("train", np.arange(8), None)
        assert all(np.array_equal(image, noise(seed)) for seed, image in enumerate(pixels))


def test_bytes_beside_images_are_left_alone() -> None:
    rows = rows_of(CONTENTS, CLASSES * 4)
    Path("data").mkdir()
    rows.add_column("mask", CONTENTS).to_parquet("data/train.parquet")
    assert len(open_source("data").pixels("train", np.arange(8), None)) == 8


def listed(*lines: str, name: str = "list.csv") -> None:
    write_class_folders("images", ["x"], count=4)
    Path(name).write_text("\n".join(lines), encoding="utf-8-sig")  # as spreadsheets write it


def paths(*labels: str, between: str = ",") -> list[str]:
    return [f"images/x/{number}.png{between}{label}" for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "10", "9"], ("9", "10")),  # in the order of numbers
        (["10", "9", "oak", "-3"], ("-3", "9", "10", "oak")),
        (["10.0", "9.0", "10.0", "9.0"], ("9", "10")),
        (["10.0", "9.0", "10", "9.0"], ("9", "10")),  # as of a table in which a cell was empty
        (["1.10", "1.9", "1.10", "1.9"], ("1.10", "1.9")),
        (['"two\nlines"', "one", "one", "one"], ("one", "two\nlines")),
        (["007", "7", "007", "7"], ("007", "7")),
        (["NA", "None", "NA", "null"], ("NA", "None", "null")),
        (['"oak, old"', "Ulme ü", " oak ", '"oak, old"'], ("Ulme ü", "oak", "oak, old")),
    ],
)
def test_labels_of_a_csv_file_keep_their_words(labels: list[str], names: tuple[str, ...]) -> None:
    listed("path,kind", *paths(*labels))
    source = open_source("list.csv")
    assert source.class_names == names
    assert len(source.labels("train")) == 4


def test_a_column_called_like_one_of_splits_may_hold_the_labels_or_one_word() -> None:
    listed("path,fold,Split", *(f"{line},all" for line in paths("a", "b", "a", "b")))
    assert open_source("list.csv", label="fold").class_names == ("a", "b")
    listed("path,kind", *paths("train", "test", "train", "test"))
    assert open_source("list.csv", label="kind").class_names == ("test", "train")


def test_tabs_other_columns_and_absolute_paths_are_read() -> None:
    lines = [f"{line}\t{number}" for number, line in enumerate(paths("a", "b", "a", "b", between="\t"))]
    lines[2] = str(Path(lines[2].split("\t")[0]).absolute()) + "\ta\t2"
    listed("path\tkind\tid", *lines, name="list.tsv")
    with pytest.raises(UserError, match=r"Set data\.label to one of: kind, id"):
        open_source("list.tsv")
    assert open_source("list.tsv", label="kind").class_names == ("a", "b")


@pytest.mark.parametrize(
    "lines",
    [
        [",path,kind", *(f"{number},{line}" for number, line in enumerate(paths("a", "b", "a", "b")))],  # pandas' index
        ["", "path;kind", *paths("a", "b", "a", "b", between=";")],
        ["path\tkind", *paths("a", "b", "a", "b", between="\t")],
        ["path,kind", *(line.replace("/", "\\") for line in paths("a", "b", "a", "b"))],
        ['"path",kind;', *paths("a", "b", "a", "b")],
        ['"path";"kind, of two"', *paths("a", "b", "a", "b", between=";")],
        ['"path";"kind, or', 'species"', *paths("a", "b", "a", "b", between=";")],
        ["sep=;", "path;kind", *paths("a", "b", "a", "b", between=";")],
    ],
    ids=[
        "an index",
        "semicolons",
        "tabs",
        "backslashes",
        "a semicolon in a name",
        "a comma in a name",
        "a line break in a name",
        "a line that names the separator",
    ],
)
def test_csv_files_are_read_as_programs_write_them(lines: list[str]) -> None:
    listed(*lines)
    source = open_source("list.csv")
    assert source.class_names == ("a", "b")
    assert source.labels("train").tolist() == [0, 1, 0, 1]
    assert np.array_equal(source.pixels("train", np.arange(4), None)[3], noise(3))


def test_a_backslash_in_the_name_of_a_file_stays_one() -> None:
    listed("path,kind", *paths("a", "b", "a"), "images\\x\\3.png,b")
    Path("images\\x\\3.png").write_bytes(encode(noise(9)))
    assert np.array_equal(open_source("list.csv").pixels("train", np.array([3]), None)[0], noise(9))


def test_a_label_that_is_a_number_in_one_split_and_a_word_in_another_is_one_class() -> None:
    write_class_folders("data/images", ["x"], count=6)
    lines = paths("1", "x", "1", "x", "1", "x")
    Path("data", "train.csv").write_text("\n".join(["path,label", *lines[:4]]))
    Path("data", "test.csv").write_text("\n".join(["path,label", *lines[4:]]))
    assert open_source("data").class_names == ("1", "x")
    Path("data", "test.csv").write_text("\n".join(["path,label", *paths("", "", "", "", "1", "1")[4:]]))
    assert open_source("data").labels("test").tolist() == [0, 0]


def test_what_is_wrong_after_a_cell_of_two_lines_is_told_with_its_own_line() -> None:
    listed("path,kind", *paths('"two\nlines"', "one", "one"), "images/x/9.png,one")
    with pytest.raises(UserError, match=r"line 6: there is no file 'images/x/9.png'"):
        open_source("list.csv")


def test_a_csv_file_may_list_images_of_rarer_endings() -> None:
    listed("path,kind", *paths("a", "b", "a", "b"))
    for number, ending in enumerate((".jfif", ".JPE", ".apng", ".pnm")):
        Path(f"images/x/{number}.png").rename(f"images/x/{number}{ending}")
        Path("list.csv").write_text(Path("list.csv").read_text().replace(f"{number}.png", f"{number}{ending}"))
    assert len(open_source("list.csv").pixels("train", np.arange(4), None)) == 4


def test_a_changed_image_that_a_csv_file_lists_is_decoded_again() -> None:
    listed("path,kind", *paths("a", "b", "a", "b"))
    before = open_source("list.csv").pixels("train", np.arange(4), None)
    assert torch.equal(open_source("list.csv").pixels("train", np.arange(4), None), before)
    Path("images/x/2.png").write_bytes(encode(noise(99)))
    after = open_source("list.csv").pixels("train", np.arange(4), None)
    assert [torch.equal(one, other) for one, other in zip(before, after, strict=True)] == [True, True, False, True]


def test_splits_that_number_their_classes_otherwise_are_refused() -> None:
    parts = {}
    for split, names in (("train", CLASSES), ("test", CLASSES[::-1])):
        write_parquet(
            {"img": [{"bytes": encode(noise()), "path": None}] * 4, "label": [0, 1] * 2},
            {"img": datasets.Image(), "label": datasets.ClassLabel(names=names)},
            f"{split}/data.parquet",
        )
        parts[split] = datasets.Dataset.from_parquet(f"{split}/data.parquet")
    datasets.DatasetDict(parts).save_to_disk("data")
    with pytest.raises(UserError, match="column 'label' of split 'test' is not of the same kind"):
        open_source("./data")


def test_photos_of_differing_sizes_are_brought_to_one_in_proportion_if_asked_for() -> None:
    write_class_folders("data/a", ["ash", "oak"], size=(12, 8))
    write_class_folders("data/b", ["ash", "oak"], size=(8, 16))
    Path("data/train").mkdir()
    for part in ("a", "b"):
        for name in CLASSES:
            for path in Path("data", part, name).iterdir():
                Path("data/train", name).mkdir(exist_ok=True)
                path.rename(Path("data/train", name, f"{part}{path.name}"))
    source = open_source("data")
    told = r"different sizes .*Set data.image_size, such as 224, and data.resize=crop or pad"
    with pytest.raises(UserError, match=told):
        prepare(source)
    cropped = prepare(source, image_size=8, resize="crop").train.pixels
    assert cropped.shape[1:] == (8, 8, 3)
    assert not torch.equal(cropped, prepare(source, image_size=8).train.pixels)


def missed(name: str) -> str:
    with pytest.raises(UserError) as error:
        open_source(name)
    return str(error.value)


def test_a_folder_that_is_not_there_is_not_another_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    write_class_folders("here/pics", CLASSES)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("here")
    assert open_source("pics").class_names == ("ash", "oak")
    monkeypatch.chdir("../elsewhere")
    assert "'pics' could not be loaded" in missed("pics")


def test_a_copy_of_a_folder_that_was_kept_under_a_bare_name_is_no_data_of_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_class_folders("here/pics", CLASSES)
    datasets.load_dataset("here/pics")  # as earlier versions did
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    said = missed("pics")
    assert "Data 'pics' is neither a folder here nor found on the hub" in said
    assert "Give the path of the folder" in said


def test_data_of_the_hub_that_was_kept_is_read_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("here/pics").mkdir(parents=True)
    rows_of(FILES, LABELS).to_parquet("here/pics/train.parquet")
    datasets.load_dataset("here/pics")
    (kept,) = (path for path in (tmp_path / "cache" / "pics").glob("*/*/*") if path.is_dir())
    kept.rename(kept.with_name("0123456789" * 4))  # a commit
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert len(open_source("pics").labels("train")) == len(FILES)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_files_of_one_name_are_told_apart(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for place, start in (("one", 10), ("other", 30)):
        Path(place).mkdir()
        monkeypatch.chdir(place)
        KINDS[kind]("train", [encode(noise(seed)) for seed in range(start, start + 8)], CLASSES * 4)
        for name in ("data", f"data/{SINGLE[kind]}") if kind in SINGLE else ("data",):
            pixels = open_source(name).pixels("train", np.arange(8), None)
            seen.append({image.numpy().tobytes() for image in pixels})
            assert seen[-1] == {np.array(noise(seed)).tobytes() for seed in range(start, start + 8)}
        monkeypatch.chdir("..")
    assert len(set(map(frozenset, seen))) == 2
