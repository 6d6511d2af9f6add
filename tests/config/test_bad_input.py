"""Nothing wrong may look right: what a user can get wrong, and the words in which it is refused.

Every row ends at the command line with exit code 2 and one line, before training, and leaves the finished run in whose
place it should have been trained as it was.
"""

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pytest
import torch
import yaml
from cohorts import Silent
from odd_files import encode, noise, png_that_claims, write_class_folders, write_parquet
from PIL import Image

import codistill
from codistill.cli import main
from codistill.config.schema import make_config
from codistill.export import export as write_export
from codistill.storage import checkpoint
from codistill.storage.yaml import _StrictLoader
from codistill.training import trainer


class Bad(NamedTuple):
    what: str
    make: Callable[[], object]  # writes files into the working folder, which holds the finished run `done`
    arguments: list[str]  # of the command
    words: tuple[str, ...]  # in the message: the culprit, and what would be accepted or what to do


def nothing() -> None:
    """The arguments alone are bad."""


# Images in class folders.


def images(what: str, make: Callable[[], object], *words: str) -> Bad:
    return Bad(what, make, ["train", "data=./data", "batch_size=8", "epochs=1"], words)


def file(path: str, content: bytes = b"") -> Callable[[], object]:
    """Two good class folders, and a file."""

    def make() -> None:
        write_class_folders("data", ["cat", "dog"])
        Path("data", path).parent.mkdir(exist_ok=True)
        Path("data", path).write_bytes(content)

    return make


def folders(*classes: str, more: str = "", count: int = 0) -> Callable[[], object]:
    """Good class folders, and one more with so many images."""

    def make() -> None:
        write_class_folders("data", classes)
        if more:
            write_class_folders("data", [more], count)

    return make


def link() -> None:
    write_class_folders("data", ["cat", "dog"])
    write_class_folders("elsewhere", ["owl"])
    Path("data/owl").symlink_to(Path("elsewhere/owl").absolute())


def latin_name() -> None:
    write_class_folders("data", ["cat", "dog"])
    Path("data/cat/3.png").rename(os.fsdecode(b"data/cat/caf\xe9.png"))


def latin_class() -> None:
    write_class_folders("data", ["cat", "dog"])
    Path("data/cat").rename(os.fsdecode(b"data/caf\xe9"))


def texts() -> None:
    write_class_folders("data", ["cat", "dog"], count=2)
    for number in range(30):
        Path(f"data/cat/{number}.txt").write_text("about an image")


def other_classes_in_test() -> None:
    write_class_folders("data/train", ["cat", "dog", "owl"])
    write_class_folders("data/test", ["cat", "dog"])


def capitals_in_test() -> None:
    write_class_folders("data/train", ["cat", "dog"])
    write_class_folders("data/test", ["Cat", "dog"])


def columns_of_classes(train: list[str], test: list[str], *, saved: bool = False) -> Callable[[], object]:
    """Parquet files of two splits, written one by one; or what ``save_to_disk`` writes of both."""

    def make() -> None:
        splits = {}
        for split, names in (("train", train), ("test", test)):
            kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
            cells = {"image": [{"bytes": encode(noise(row)), "path": None} for row in range(40)], "label": [0, 1] * 20}
            splits[split] = datasets.Dataset.from_dict(cells, kinds)
            if not saved:
                write_parquet(cells, kinds, f"data/{split}.parquet")
        if saved:
            datasets.DatasetDict(splits).save_to_disk("data")

    return make


def with_a_wrong_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :]


LARGE = noise(size=(64, 64))
JPEG, PNG = encode(LARGE, "JPEG"), encode(LARGE)
CLASS_FOLDERS = "Images should lie in two class folders or more, all at one depth"

IMAGES = [
    images("random bytes named .png", file("cat/3.png", LARGE.tobytes()), "cat/3.png", "cannot be decoded", "Replace"),
    images(
        "an image of no bytes", file("cat/3.png"), "cat/3.png", "none of BMP, GIF, JPEG, JPEG2000, PNG", "remove it"
    ),
    images("a text named .jpg", file("cat/3.jpg", b"no image"), "cat/3.jpg", "cannot be decoded: it is none of BMP"),
    images("a program named .png", file("cat/3.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"), "cat/3.png", "it is none of BMP"),
    images("a PNG that ends early", file("cat/3.png", PNG[:2000]), "cat/3.png", "truncated", "Replace it"),
    images("a PNG with a wrong byte", file("cat/3.png", with_a_wrong_byte(PNG)), "cat/3.png", "cannot be decoded"),
    images("a JPEG that ends early", file("dog/3.jpg", JPEG[:2000]), "dog/3.jpg", "truncated", "Replace it"),
    images("a JPEG without its last byte", file("dog/3.jpg", JPEG[:-1]), "dog/3.jpg", "truncated"),
    images(
        "a bomb of which Pillow warns", file("cat/3.png", png_that_claims(10_000)), "cat/3.png", "10000x10000", "limit"
    ),
    images("a bomb that Pillow refuses", file("cat/3.png", png_that_claims(20_000)), "cat/3.png", "limit"),
    images("pixels without a range", file("cat/3.tif", encode(LARGE.convert("F"), "TIFF")), "cat/3.tif", "with 8 bits"),
    images("images of two sizes", file("cat/3.png", PNG), "different sizes", "64x64", "Set data.image_size"),
    images(
        "images of 1x1 pixels", lambda: write_class_folders(size=(1, 1)), "1x1 pixels", "4x4", "Set data.image_size"
    ),
    images("a class of one image", folders("cat", "dog", more="owl", count=1), "'owl' has 1 image", "Add images of it"),
    images("a class without images", folders("cat", "dog", more="owl"), "data/owl' holds no image", "remove it"),
    images("a class of texts only", file("owl/about.txt"), "data/owl' holds no image", "Put images there"),
    images("a class that is a link", link, "data/owl' is a link, which is not followed", "Put images there"),
    images("a class that test lacks", other_classes_in_test, "Split 'test' has no image of 1 of the classes: 'owl'"),
    images(
        "a class in capitals in test",
        capitals_in_test,
        "Split 'train' has no image of 1 of the classes: 'Cat'. It has images of 'cat', which differs from 'Cat' only "
        "in capitals: give both splits one spelling",
    ),
    images(
        "Parquet files that number classes otherwise",
        columns_of_classes(["cat", "dog"], ["dog", "cat"]),
        "The class names of column 'label' in 'data/train.parquet' are not those in 'data/test.parquet'",
        "('cat', not 'dog'). Write all of them with the same class names, in one order",
    ),
    images(
        "a class in capitals in a Parquet file",
        columns_of_classes(["cat", "dog"], ["Cat", "dog"]),
        "('cat', not 'Cat')",
    ),
    images(
        "a class in capitals in a saved split",
        columns_of_classes(["cat", "dog"], ["Cat", "dog"], saved=True),
        "column 'label' of split 'test' is not of the same kind",
        "('Cat', not 'cat'). Save the splits alike",
    ),
    images("a single class", folders("cat"), "two classes; train has images of 1 ('cat')", "Add images of another"),
    images("no class folders", lambda: write_class_folders(".", ["data"]), "'./data' has no labels", CLASS_FOLDERS),
    images(
        "an image beside the class folders",
        file("3.png", PNG),
        "'./data' has no labels: 'data/3.png' lies beside folders of images",
        CLASS_FOLDERS,
    ),
    images("a file name in another encoding", latin_name, r"data/cat/caf\xe9.png' is not text in UTF-8", "Rename it"),
    images("a class name in another encoding", latin_class, r"data/caf\xe9/0.png' is not text in UTF-8", "its folder"),
    images(
        "an image within a class folder's folder",
        lambda: [write_class_folders(f"data/{name}", ["2021", "2022"]) for name in ("oak", "elm")],
        "'elm/2021' and 'oak/2021' would be one class, '2021'",
        "Put images right into class folders",
    ),
    images("splits without classes", folders("train", "test"), "'./data' has no labels", CLASS_FOLDERS),
    images(
        "more texts than images", texts, "one image column, has none", "a folder of images should hold nothing else"
    ),
    images(
        "an empty folder", lambda: Path("data").mkdir(), "'./data' is empty", "Parquet files or images in class folders"
    ),
    images("no folder", nothing, "Data folder './data' does not exist"),
    Bad(
        "a data folder misspelt",
        lambda: write_class_folders("photos/pets"),
        ["train", "data=./photo/pets"],
        ("Data folder './photo/pets' does not exist. Did you mean 'photos/pets'?",),
    ),
    images(
        "a file in place of a folder",
        lambda: Path("data").touch(),
        "'./data' is a file that cannot be read as data: .parquet, .arrow, .tar, .csv, .tsv can",
        "give the folder that holds the file",
    ),
]

# Files that are given by their names.


def given(what: str, path: str, make: Callable[[], object], *words: str, keys: tuple[str, ...] = ()) -> Bad:
    return Bad(what, make, ["train", f"data={path}", "batch_size=8", "epochs=1", *keys], words)


def listing(*lines: str, content: bytes | None = None) -> Callable[[], object]:
    """A CSV file beside two class folders."""

    def make() -> None:
        write_class_folders(".", ["cat", "dog"])
        Path("list.csv").write_bytes("\n".join(lines).encode() if content is None else content)

    return make


def shard(*members: tuple[str, bytes], cut: int = 0) -> Callable[[], object]:
    def make() -> None:
        with tarfile.open("data.tar", "w") as file:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        Path("data.tar").write_bytes(Path("data.tar").read_bytes()[: -cut or None])

    return make


def csv_folder() -> None:
    listing("file,label", "cat/0.png,cat", "dog/0.png,dog")()
    Path("data").mkdir()
    shutil.move("list.csv", "data/labels.csv")


def csv_splits(**lines: list[str]) -> Callable[[], object]:
    """A folder of CSV files, one for each split, beside the class folders that they list."""

    def make() -> None:
        write_class_folders("data", ["cat", "dog"])
        for split, listed in lines.items():
            Path("data", f"{split}.csv").write_text("\n".join(["file,label", *listed]))

    return make


GOOD_LINES = [f"{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(10)]
TINY = encode(noise())
FILES = [
    given("no such file", "nowhere.csv", nothing, "Data file 'nowhere.csv' does not exist"),
    given("an archive", "all.zip", lambda: Path("all.zip").touch(), "'all.zip' is a file that cannot", "Unpack"),
    given("an empty CSV file", "list.csv", listing(), "'list.csv' lists no images", "a first line that names"),
    given("a CSV file of names only", "list.csv", listing("file,label"), "'list.csv' lists no images"),
    given("a CSV file without names", "list.csv", listing(*GOOD_LINES), "begins with an image", "a first line"),
    given("a name twice", "list.csv", listing("file,file", *GOOD_LINES), "should name each column once"),
    given(
        "an image that is not there",
        "list.csv",
        listing("file,label", "cat/0.png,cat", "cat/x.png,cat"),
        "'list.csv', line 3: there is no file 'cat/x.png'",
        "relative to the CSV file",
    ),
    given(
        "a cell too many",
        "list.csv",
        listing("file,label", "cat/0.png,cat", "dog/0.png,dog,1"),
        "line 3: 3 cells for 2 columns",
        "Correct the line",
    ),
    given(
        "no column of images",
        "list.csv",
        listing("file,label", "0,cat", "1,dog"),
        "should have one column of image files, has none",
        "Image files end with .apng",
    ),
    given(
        "two columns of images",
        "list.csv",
        listing("a,b,label", "cat/0.png,cat/1.png,cat", "c.png,d.png,dog"),
        "has a, b. Its columns: a, b, label",
    ),
    given(
        "a CSV file in another encoding",
        "list.csv",
        listing(content="file,größe\n".encode("latin-1")),
        "'list.csv' is not text in UTF-8",
        "Save it as UTF-8",
    ),
    given("a quote that stays open", "list.csv", listing("file,label", '"cat/0.png,cat'), "is not valid CSV"),
    given(
        "an image twice",
        "list.csv",
        listing("file,label", *GOOD_LINES, "./cat/0.png,dog"),
        "'list.csv', line 22: './cat/0.png' is in line 2 already",
    ),
    given(
        "an image of two CSV files",
        "./data",
        csv_splits(train=GOOD_LINES, test=[f"./{line}" for line in GOOD_LINES[1::3]]),
        "data/test.csv', line 2: '",
        "data/cat/1.png' is in line 3 of 'data/train.csv' already. Leave one out",
    ),
    given(
        "an image of two CSV files that are not train",
        "./data",
        csv_splits(train=GOOD_LINES[2:], val=GOOD_LINES[:2], test=GOOD_LINES[1:2]),
        "data/test.csv', line 2: '",
        "data/cat/1.png' is in line 3 of 'data/val.csv' already",
    ),
    given(
        "a column of splits",
        "list.csv",
        listing("file,label,part", *(f"{line},{'Test' if '0.png' in line else 'train'}" for line in GOOD_LINES)),
        "Column 'part' of 'list.csv' tells splits (test, train), but a CSV file is all one",
        "train.csv, test.csv",
    ),
    given(
        "a column of splits in other words",
        "list.csv",
        listing("file,label,part", *(f"{line},{'eval' if '0.png' in line else 'training'}" for line in GOOD_LINES)),
        "Column 'part' of 'list.csv' tells splits (eval, training), but a CSV file is all one",
    ),
    *(
        given(
            f"a column called {name}",
            "list.csv",
            listing(
                f"file,label,{name}",
                *(f"{line},{words[number % len(words)]}" for number, line in enumerate(GOOD_LINES)),
            ),
            f"Column '{name}' of 'list.csv' tells splits ({told}), but a CSV file is all one",
            "Give a folder with a file for each: train.csv, test.csv",
            "call it otherwise",
        )
        for name, words, told in (
            ("Usage", ["Training", "PublicTest", "PrivateTest"], "privatetest, publictest, training"),
            ("is_valid", ["False", "True"], "false, true"),
            ("split", ["train", "holdout", ""], "nothing, holdout, train"),
            ("FOLD", list("0123456789"), "0, 1, 2, 3, 4, ..."),
        )
    ),
    given("no labels in a CSV file", "list.csv", listing("file", "cat/0.png", "dog/0.png"), "has no labels"),
    given(
        "no label in a line",
        "list.csv",
        listing("file,label", *GOOD_LINES[1:], "cat/0.png,"),
        "'list.csv', line 21: there is no label",
        "leave it out",
    ),
    given(
        "no name of a column", "list.csv", listing("file,label,", *(f"{x},1" for x in GOOD_LINES)), "is file, label, ."
    ),
    given(
        "a nameless column of words", "list.csv", listing(",file,label", *(f"a,{x}" for x in GOOD_LINES)), "each column"
    ),
    given(
        "a broken image that a CSV file lists",
        "list.csv",
        lambda: [listing("file,label", *GOOD_LINES)(), Path("cat/2.png").write_bytes(PNG[:999])],
        "'list.csv', line 4 (",
        "cat/2.png): the image cannot be decoded",
    ),
    given(
        "a wrong data.label in a CSV file",
        "list.csv",
        listing("file,label", *GOOD_LINES),
        "Unknown label column (data.label) 'kind'. Choices: label",
        keys=("data.label=kind",),
    ),
    given("CSV files of other names", "./data", csv_folder, "none of them train.csv", "Give the file that lists"),
    given(
        "a shard that was cut off",
        "data.tar",
        shard(("1.png", TINY), ("1.cls", b"1"), cut=9000),
        "'data.tar' is no whole tar archive",
        "download it again",
    ),
    given(
        "an archive of no samples",
        "data.tar",
        lambda: Path("data.tar").write_bytes(b"no tar" + bytes(2048)),
        "'data.tar' could not be loaded",
        "A WebDataset shard holds",
    ),
    given(
        "words in .cls",
        "data.tar",
        shard(("1.png", TINY), ("1.cls", b"cat")),
        "'data.tar' could not be loaded",
        ".cls is a whole number, words go into 1.json",
    ),
    given(
        "a shard of several endings",
        "data.tar",
        shard(("1.png", TINY), ("1.cls", b"1"), ("2.jpg", TINY), ("2.cls", b"1")),
        "with the same endings for all",
    ),
    given(
        "a shard without labels",
        "data.tar",
        shard(*((f"{n}.png", TINY) for n in range(9))),
        "has no labels",
        "a .cls or .json file",
    ),
]

# Parquet.

FEATURES = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
ROWS = {"img": [{"bytes": encode(noise(seed)), "path": None} for seed in range(20)], "label": [0, 1] * 10}


def parquet(what: str, *words: str, key: str = "seed=0", of: dict[str, Any] | None = None, **columns: Any) -> Bad:
    """Twenty good rows with other columns (None: without), of other types, and a key."""
    rows = {name: cells for name, cells in {**ROWS, **columns}.items() if cells is not None}
    types = {name: kind for name, kind in {**FEATURES, **(of or {})}.items() if name in rows}

    def make() -> None:
        write_parquet(rows, types, "data/train.parquet")

    return Bad(what, make, ["train", "data=./data", "batch_size=8", "epochs=1", key], words)


def instead(column: str, cell: object) -> dict[str, list[Any]]:
    """The good column, but for row 3."""
    return {column: [cell if row == 3 else good for row, good in enumerate(ROWS[column])]}


def cut_off() -> None:
    write_parquet(ROWS, FEATURES, "data/train.parquet")
    path = Path("data/train.parquet")
    path.write_bytes(path.read_bytes()[:-100])


def damaged_within() -> None:
    write_parquet(ROWS, FEATURES, "data/train.parquet")
    path = Path("data/train.parquet")
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\0" * 300 + content[304:])


NUMBER, DECIMAL, WORD = datasets.Value("int64"), datasets.Value("float64"), datasets.Value("string")
ROW_3 = "split 'train', row 3"
BLACK = [{"bytes": encode(Image.new("RGB", (8, 8))), "path": None}] * 20

PARQUET = [
    parquet(
        "a label that its classes lack", ROW_3, "label 7 is none of the 2 classes", "Correct it", **instead("label", 7)
    ),
    parquet(
        "a negative label",
        ROW_3,
        "label -1 is none of the 2 classes, and means that the image has no label",
        "remove the row",
        **instead("label", -1),
    ),
    parquet("no label in a row", ROW_3, "there is no label", "leave it out", **instead("label", None)),
    parquet("no label in any row", "Split 'train'", "no labels: all 20 are -1", "Set data.label", label=[-1] * 20),
    parquet(
        "labels that are no text",
        ROW_3,
        "label b'\\xff' is not text in UTF-8",
        of={"label": datasets.Value("binary")},
        label=[b"\xff" if row == 3 else b"ab"[row % 2 :][:1] for row in range(20)],
    ),
    parquet(
        "NaN for a label", ROW_3, "label nan is none of the 2", of={"label": DECIMAL}, **instead("label", float("nan"))
    ),
    parquet(
        "fractions for labels",
        "labels such as 0.5 are no classes",
        "Set data.label",
        of={"label": DECIMAL},
        label=[0.5, 1] * 10,
    ),
    parquet(
        "an id for a label",
        "has 1 image(s) to train on",
        of={"label": WORD},
        label=[f"id{n}" for n in range(20)],
    ),
    parquet("one class", "at least two classes; train has images of 1", label=[1] * 20),
    parquet("no label column", "has no labels", "a Parquet file should have a label column", label=None),
    parquet(
        "two unknown label columns",
        "Set data.label to one of: a, b",
        label=None,
        a=[0] * 20,
        b=[0] * 20,
        of={"a": NUMBER, "b": NUMBER},
    ),
    parquet(
        "a wrong data.label", "Unknown label column (data.label) 'lable'. Did you mean 'label'?", key="data.label=lable"
    ),
    parquet(
        "an image for a label",
        "column 'img' cannot be the labels",
        "set data.label to one of: label",
        key="data.label=img",
    ),
    parquet(
        "lists for labels",
        "column 'label' cannot be the labels, for it holds lists, List(Value('int64'))",
        "of lists of one, the first",
        label=[[0]] * 20,
        of={"label": datasets.Sequence(NUMBER)},
    ),
    parquet(
        "lists for labels beside another column",
        "'label' cannot be the labels",
        "or set data.label to one of: id",
        label=[[0]] * 20,
        id=list(range(20)),
        of={"label": datasets.Sequence(NUMBER), "id": NUMBER},
    ),
    parquet(
        "pixels in lists",
        "one image column, has none",
        "Column 'img' holds lists",
        "PIL.Image.fromarray(numpy.uint8(row['img']))",
        img=[[[[0, 0, 0]] * 8] * 8] * 20,
        of={"img": datasets.List(datasets.List(datasets.List(NUMBER)))},
    ),
    parquet(
        "pixels in arrays",
        "Column 'img' holds lists",
        "If they are pixels",
        img=[[[[0, 0, 0]] * 8] * 8] * 20,
        of={"img": datasets.Array3D((8, 8, 3), "uint8")},
    ),
    parquet(
        "lists of images",
        "Column 'img' holds lists of images",
        "row['img'][0]",
        img=[[cell] for cell in ROWS["img"]],
        of={"img": datasets.List(datasets.Image())},
    ),
    parquet(
        "a split to leave out that is not there",
        "data.ignore_splits=test",
        "has no split 'test'. Its splits: train",
        key="data.ignore_splits=test",
    ),
    parquet(
        "no images to train on",
        "data.ignore_splits",
        "should be 'validation' or 'test'",
        key="data.ignore_splits=train",
    ),
    parquet("a wrong data.superclass", "(data.superclass) 'group'", "Choices: label", key="data.superclass=group"),
    parquet("an image for a superclass", "(data.superclass) 'img'", "Choices: label", key="data.superclass=img"),
    parquet(
        "a class of two superclasses",
        "one superclass for each class",
        "'cat'",
        key="data.superclass=s",
        s=[0, 0, 1, 1] * 5,
        of={"s": NUMBER},
    ),
    parquet("no image column", "should have one image column, has none", "Its columns: label", img=None),
    parquet(
        "paths for images",
        "'./data' holds paths in column 'img' and no images",
        "table.to_csv('list.csv', index=False)",
        img=["img/1.png"] * 20,
        of={"img": WORD},
    ),
    parquet("two image columns", "has img, mask", "Leave one", mask=ROWS["img"], of={"mask": datasets.Image()}),
    parquet("no image in a row", ROW_3, "there is no image", "Remove the row", **instead("img", None)),
    parquet(
        "a broken image in a row", ROW_3, "cannot be decoded", **instead("img", {"bytes": PNG[:999], "path": None})
    ),
    parquet("images all of one colour", "all training pixels of a channel are equal", img=BLACK),
    parquet("more classes than there are", "data.classes=3 is not possible", "choose 2 or more", key="data.classes=3"),
    parquet(
        "more images than a class has", "data.per_class=99", "class 'cat' has", "Lower it", key="data.per_class=99"
    ),
    parquet(
        "a larger batch than there are images", "batch_size=99 is larger than the training data", key="batch_size=99"
    ),
    parquet("a border as wide as the images", "augment.padding=8 must be smaller", key="augment.padding=8"),
    images(
        "a Parquet file that was cut off", cut_off, "data/train.parquet' is no whole Parquet file", "download it again"
    ),
    images(
        "a Parquet file damaged within", damaged_within, "'./data' could not be loaded", "should hold Parquet files"
    ),
]

# Recipes.


def recipe(what: str, content: str | bytes, *words: str) -> Bad:
    def make() -> None:
        Path("recipe.yaml").write_bytes(content.encode() if isinstance(content, str) else content)

    return Bad(what, make, ["train", "recipe.yaml"], ("recipe.yaml", *words))


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
RUNS_A_PROGRAM = "data: !!python/object/apply:os.system ['touch pwned']\n"

RECIPES = [
    recipe("a key twice", "epochs: 3\nseed: 1\nepochs: 4\n", "line 3: the key 'epochs' is there twice", "Keep one"),
    recipe("a nested key twice", "optimizer: {lr: 1, lr: 2}\n", "line 1: the key 'lr' is there twice"),
    recipe("a student twice, as number and word", "students: {1: resnet8, '1': resnet20}\n", "'1' is there twice"),
    recipe("a Python object", RUNS_A_PROGRAM, "line 1", "python/object/apply:os.system"),
    recipe("a tag that lies", "compile: !!bool maybe\n", "is not valid YAML"),
    recipe("a billion laughs", LAUGHS, "line 2: aliases are not read", "Write out what *a stands for"),
    recipe("a list that holds itself", "tasks: &a [*a]\n", "line 1: aliases are not read"),
    recipe("a thousand brackets", "tasks: " + "[" * 5000, "nested too deeply"),
    recipe("a list at the top", "- epochs\n", "should hold keys and values, holds a list"),
    recipe("a word at the top", "epochs\n", "should hold keys and values, holds a str"),
    recipe("another encoding", "data: größe\n".encode("latin-1"), "is not text in UTF-8", "Save it as UTF-8"),
    recipe("a tab", "optimizer:\n\tlr: 1\n", "line 2", "Indent with spaces, not with tabs"),
    recipe("a bracket that stays open", "tasks: [rotation\n", "is not valid YAML: line 2"),
    recipe("a number with zeros before it", "seed: 010\n", "line 1: 010 would be read as 8", "Write 8"),
    recipe("a time of day", "epochs: 1:30\n", "1:30 would be read as 90"),
    recipe("a time with a fraction", "optimizer: {lr: 1:30.5}\n", "1:30.5 would be read as 90.5"),
]
RECIPES += [
    Bad(
        "a folder in place of a recipe",
        lambda: Path("r").mkdir(),
        ["train", "r"],
        ("Recipe 'r' is a folder", "Did you mean data=r?"),
    ),
    Bad("a run in place of a recipe", nothing, ["train", "done"], ("is a folder", "Did you mean done/config.yaml?")),
    Bad(
        "a space before =",
        lambda: Path("data").mkdir(),
        ["train", "data", "=x"],
        ("'data =x' has a space beside '='. Write data=x",),
    ),
    Bad("a space after =", nothing, ["train", "seed=1", "epochs=", "3"], ("'epochs= 3' has a space", "epochs=3")),
    Bad("spaces around =", nothing, ["train", "epochs", "=", "3"], ("'epochs = 3' has a space", "epochs=3")),
    Bad("a space before = of a sweep", nothing, ["sweep", "s.yaml", "epochs", "=3"], ("'epochs =3' has a space",)),
    Bad("a recipe misspelt", lambda: Path("fast.yaml").touch(), ["train", "fats.yaml"], ("Did you mean 'fast.yaml'?",)),
    Bad("no recipe", nothing, ["train", "nowhere.yaml"], ("Recipe 'nowhere.yaml' does not exist",)),
    Bad("a recipe with a name too long for a file", nothing, ["train", "r" * 300], ("Recipe 'rrr", "does not exist")),
]

# Keys.


def keys(what: str, override: str | list[str], *words: str) -> Bad:
    overrides = [override] if isinstance(override, str) else override
    return Bad(what, nothing, ["train", "epochs=30", *overrides], words)


A_WEIGHT = "should be a number from 0 up, or {weight: 1, over: 0.3}"

KEYS = [
    keys("a key without =", "epochs", "'epochs' is not of the form key=value"),
    keys("a value without key", "=3", "'=3' is not of the form key=value"),
    keys("a key with a gap", "optimizer..lr=3", "'optimizer..lr=3' is not of the form key=value"),
    keys("an empty value", "tasks=", "'tasks=' has no value", "null stands for no value"),
    keys("a seed with zeros before it", "seed=010", "'seed=010'", "010 would be read as 8"),
    keys("a student twice", "students={a: resnet8, a: resnet8}", "the key 'a' is there twice"),
    keys("a key misspelt", "batchsize=8", "Unknown key 'batchsize'. Did you mean 'batch_size'?"),
    keys("a key without its section", "image_size=64", "'image_size'. Did you mean 'data.image_size'?"),
    keys("a word of a key", "data.size=64", "'data.size'. Did you mean 'data.image_size'?"),
    keys("an abbreviation without its section", "lr=0.1", "'lr'. Did you mean 'optimizer.lr'?"),
    keys("a key of another section", "data.lr=0.1", "'data.lr'. Did you mean 'optimizer.lr'?"),
    keys("a key of the optimizer for the method", "method.lr=0.1", "'lr'. Did you mean 'optimizer.lr'?"),
    keys("a section that there is not", "training.lr=0.1", "'training.lr'. Did you mean 'optimizer.lr'?"),
    keys("a setting of the method without it", "reliability=2", "'reliability'. Did you mean 'method.reliability'?"),
    keys("a key of other tools", "learning_rate=0.1", "'learning_rate'. Did you mean 'optimizer.lr'?"),
    keys("a key in quotes with a space", "epochs =3", "has a space beside its key. Write epochs=3"),
    keys("a nested key misspelt", "optimizer.nestrov=true", "'optimizer.nestrov'. Did you mean 'optimizer.nesterov'?"),
    keys("a mapping expected", "optimizer=3", "optimizer should be a mapping with keys among name, lr"),
    keys("no such optimizer", "optimizer=adam", "optimizer.name should be 'sgd' or 'adamw'", "'adam'"),
    keys(
        "a setting of another optimizer", "optimizer={name: adamw, nesterov: true}", "optimizer.nesterov=true is of sgd"
    ),
    keys(
        "a rate for nobody", "optimizer.lr_factors={c: 2}", "Unknown student in optimizer.lr_factors 'c'", "resnet8_1"
    ),
    keys("keys under a number", "epochs.x=3", "epochs is 30: it has no keys", "'epochs.x' cannot be set"),
    keys("an unknown tracker", "trackers=[tensorbord]", "trackers.0 should be 'tensorboard', 'wandb', 'mlflow' or"),
    keys("a tracker that is no list", "trackers=wandb", "trackers should be a valid list", "'wandb'"),
    keys("a word for a number", "epochs=many", "epochs should be a valid integer", "'many'"),
    keys("a fraction for a whole number", "epochs=1.5", "epochs should be a valid integer", "1.5"),
    keys("yes for a number", "epochs=yes", "epochs should not be yes or no", "True"),
    keys("no for a setting's number", "method={name: dml, temperature: no}", "temperature should not be yes or no"),
    keys("no epochs", "epochs=0", "epochs should be greater than or equal to 1"),
    keys("a batch of one", "batch_size=1", "batch_size should be greater than or equal to 2"),
    keys(
        "a batch larger than the data",
        "batch_size=2000",
        "batch_size=2000 is larger than the training data: 1078",
        "batch_size=1024 would do",
    ),
    keys("NaN", "optimizer.lr=.nan", "optimizer.lr should be a finite number"),
    keys("infinity", "optimizer.weight_decay=.inf", "optimizer.weight_decay should be a finite number"),
    keys(
        "an infinite weight of a task", "tasks=[{name: supcon, weight: .inf}, none]", "weight should be a finite number"
    ),
    keys("a warm-up longer than training", "optimizer.warmup_epochs=50", "is more than epochs=30", "Lower it"),
    keys("no such schedule", "optimizer.schedule=cosin", "optimizer.schedule should be 'cosine' or 'step'", "'cosin'"),
    keys("images too small", "data.image_size=2", "data.image_size should be greater than or equal to 4"),
    keys("no such resizing", "data.resize=stretch", "data.resize should be 'squash', 'crop' or 'pad'", "'stretch'"),
    keys("nothing to test on", "data.test=0", "data.test should be greater than 0"),
    keys("no such crop", "augment.crop=random", "augment.crop should be 'padded', 'resized' or 'none'"),
    keys("a border without a crop", "augment={crop: none, padding: 2}", "augment.padding=2 needs augment.crop=padded"),
    keys("a crop larger than the image", "augment.scale=[0.5, 2]", "augment.scale=[0.5, 2.0]", "1 at most"),
    keys("a range the wrong way round", "augment.ratio=[2, 1]", "should go from a smaller to a larger number"),
    keys("a range of one number", "augment.scale=[1]", "augment.scale", "at least 2 items"),
    keys("yes for a number of a range", "augment.scale=[yes, 1]", "augment.scale.0 should not be yes or no"),
    keys("no such policy", "augment.policy=auto", "augment.policy should be 'none', 'trivial' or 'rand'"),
    keys("a negative alpha", "augment.mixup=-1", "augment.mixup should be greater than or equal to 0"),
    Bad(
        "mixed images for a task that compares classes",
        nothing,
        ["train", "tasks=[rotation, supcon]", "augment.mixup=0.2"],
        (
            "augment.mixup gives images two labels each, but task 'supcon' of student 'resnet8_2'",
            "Set augment.mixup to 0",
        ),
    ),
    keys("no such order", "order=balance", "order should be 'shuffled', 'class_pairs' or 'balanced'"),
    keys("no such device", "device=cuda:99", "device=cuda:99 cannot be used here", "Choose auto or cpu"),
    keys("nobody to share with", "sharding=parameters", "there is one", "Start several with torchrun", "sharding=none"),
    keys("a word of other tools", "sharding=full", "sharding", "'none' or 'parameters'"),
    keys("a device without numbers", "device=meta", "device should be auto, cpu, cuda, cuda:N or mps", "'meta'"),
    keys("no such method", "method=dmll", "Unknown method 'dmll'. Did you mean 'dml'? Choices: independent, dml"),
    keys("no such task", "tasks=rotaton", "Unknown task 'rotaton'. Did you mean 'rotation'?"),
    keys("a model of timm without its prefix", "students=[resnet18,resnet8]", "Models of timm are called timm/NAME"),
    keys("no such model", "students=[resnet8,resnet9]", "Unknown model 'resnet9'. Did you mean 'resnet8'?"),
    keys(
        "students without a space after the colon",
        "students={small:resnet8,large:resnet20}",
        "small:resnet8 has no space after its colon. Write small: resnet8",
    ),
    keys(
        "a list of these", "students=[small:resnet8,large:resnet20]", "takes a space after the colon: {small: resnet8}"
    ),
    keys("a method without a space after the colon", "method={name:dml}", "Write name: dml"),
    keys("students with =", "students={a=resnet8,b=resnet8}", "Student 'a=resnet8' has no model", "name: model"),
    keys("name and model interchanged", "students={resnet8: a, resnet20: b}", "name comes first: {a: resnet8}"),
    keys("a model's name for its students'", "optimizer.lr_factors={resnet8: 2}", "mean 'resnet8_1' or 'resnet8_2'?"),
    keys(
        "a model without name",
        "students=[{pretrained: true},resnet8]",
        "a mapping with 'name', got {'pretrained': True}",
    ),
    keys(
        "no setting of a model",
        "students=[{name: wrn_16_2, drop: 0.1},resnet8]",
        "'drop'. Did you mean 'dropout'?",
    ),
    keys("a setting of no model", "students=[{name: resnet8, width: 2},resnet8]", "setting of model 'resnet8' 'width'"),
    keys("all dropped", "students=[{name: wrn_16_2, dropout: 1},resnet8]", "dropout should be less than 1 (got 1)"),
    keys(
        "bytes for a model",
        "students=[{name: timm/vgg11, a: !!binary aGk=},resnet8]",
        "should be words, numbers, lists",
    ),
    keys(
        "no such module",
        "students=['no_nets:make',resnet8]",
        "module 'no_nets' cannot be imported",
        "installed, or lie",
    ),
    keys("no such setting", "method.temprature=3", "'temprature'. Did you mean 'temperature'?"),
    keys(
        "a word for a setting's number",
        "method={name: dml, temperature: hot}",
        "In method 'dml': temperature should be a",
    ),
    keys("a negative setting", "method={name: dml, temperature: -1}", "temperature should be greater than 0", "-1"),
    keys("a method without a name", "method={temperature: 1}", "A method should be one of independent, dml", "'name'"),
    keys("a ramp in epochs", "method={name: dml, ramp: 30}", "ramp should be less than or equal to 1", "30"),
    keys("a negative weight", "weights={'*/ce': -1}", "weights.*/ce " + A_WEIGHT, "-1"),
    keys("a word for a weight", "weights={'*/ce': much}", "weights.*/ce " + A_WEIGHT, "'much'"),
    keys("yes for a weight", "weights={'*/ce': yes}", "weights.*/ce " + A_WEIGHT, "True"),
    keys("a weight that ramps over nothing", "weights={'*/ce': {weight: 1}}", "weights.*/ce " + A_WEIGHT),
    keys("a weight that ramps in epochs", "weights={'*/ce': {weight: 1, over: 30}}", "A ramp", "over 30"),
    keys(
        "a weight that others overrule",
        "weights={'resnet8_1/*_kl': 0, '*/*_kl': 1}",
        "'resnet8_1/*_kl' in weights changes nothing: '*/*_kl' below it",
        "exceptions below the rule",
    ),
    keys("a weight for no loss", "weights={'*/cee': 1}", "Unknown loss in weights '*/cee'", "Choices: "),
    keys("a negative weight of a task", "tasks=[{name: supcon, weight: -1}, none]", "weight should be greater", "-1"),
    keys("yes for a weight of a task", "tasks=[{name: supcon, weight: yes}, none]", "weight should not be yes or no"),
    keys(
        "one student who is to learn from others",
        ["students=[resnet8]", "method=dml"],
        "With method=dml students teach each other, but there is one: resnet8.",
        "Give two or more, or set method=independent.",
    ),
    keys("no students", "students=null", "students should be a model, a list of models or a mapping"),
    keys("a list without students", "students=[]", "A cohort needs a student, got none"),
    keys("a student with a slash", "students={a/b: resnet8, c: resnet8}", "may not be empty or contain", "'a/b'"),
    keys("a student up a folder", "students={..: resnet8, c: resnet8}", "may not be empty or contain", "'..'"),
    keys("a student with a line break", r'students={"a\nb": resnet8, c: resnet8}', r"'a\nb'", "should be printable"),
    keys("a name too long for a file", f"students={{{'a' * 201}: resnet8, c: resnet8}}", "at most 200 bytes"),
    keys("students that differ in capitals", "students={a: resnet8, A: resnet8}", "differ in more than case"),
    keys("a student that YAML reads as no", "students={no: resnet8, yes: resnet8}", "False", "quote it"),
    keys(
        "a student named like a part",
        ["students={cpm: resnet8, b: resnet8}", "method=collaborative"],
        "'cpm' is taken",
        "Name the student otherwise",
    ),
    keys("three tasks for two students", "tasks=[rotation, supcon, none]", "3 tasks for 2 students", "one for all"),
    keys("a task twice", "tasks=[[rotation, rotation], none]", "has the same task twice"),
    keys("superclasses of nothing", "tasks=[coarse, none]", "Task 'coarse'", "Set data.superclass"),
]

# Run folders.


def a_run(*, finished: bool = True, **files: str | bytes | None) -> Callable[[], object]:
    """A copy of the finished run in the folder `run`, with other content in its files (None: without the file)."""

    def make() -> None:
        shutil.copytree("done", "run")
        for key, content in {**files, **({} if finished else {"summary_json": None})}.items():
            path = Path("run", key.replace("_", "."))
            path.unlink()
            if content is not None:
                path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def edited(before: str, after: str) -> None:
    a_run(finished=False)()
    path = Path("run/config.yaml")
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def another_checkpoint() -> None:
    a_run(finished=False)()
    state = checkpoint.read(Path("run/checkpoint.pt"))
    config = yaml.safe_load(state["config"])
    config["optimizer"]["lr"], config["seed"] = 0.5, 7
    Path("run/checkpoint.pt").write_bytes(checkpoint.seal({**state, "config": yaml.safe_dump(config)}))


def another_file_of_torch() -> None:
    a_run(finished=False)()
    Path("run/checkpoint.pt").write_bytes(checkpoint.seal({"weights": torch.zeros(3)}))


def students_of_another_run() -> None:
    a_run()()
    path = Path("run/config.yaml")
    path.write_text(path.read_text().replace("a: resnet8", "c: resnet8"))


def damaged_outputs() -> None:
    a_run()()
    Path("run/outputs/test.safetensors").write_bytes(b"neither")


def control_with_damaged_answers() -> None:
    a_run()()
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    Path("run/config.yaml").write_text(yaml.safe_dump({**config, "method": {"name": "independent"}}))
    Path("run/outputs").mkdir(exist_ok=True)
    Path("run/outputs/test.safetensors").write_bytes(b"nonsense")


def busy_file() -> None:
    Path("run").write_text("mine")


SUMMARY_OF_ANOTHER_KIND = json.dumps(
    {
        "test_accuracy": {"students": {"a": 1.0, "b": 1.0}, "teacher": None, "ensemble": 1.0},
        "test_accuracy_selected": {"students": 1.0, "teacher": None, "ensemble": 1.0},
        "parameters": {"students": {}, "training_only": 0},
        "seconds": 1.0,
        "seed": 0,
    }
)

RESUME, EVALUATE, COMPARE = ["train", "--resume", "run"], ["evaluate", "run"], ["compare", "done", "run"]
ANALYSE = ["analyse", "run"]

RUNS = [
    Bad("no minutes at all", nothing, ["train", "--minutes", "0"], ("minutes=0 should be a finite number above 0",)),
    Bad(
        "minutes that are none",
        nothing,
        ["train", "--minutes", "nan"],
        ("minutes=nan should be a finite",),
    ),
    Bad(
        "minutes and epochs",
        nothing,
        ["train", "epochs=3", "--minutes", "5"],
        ("--minutes chooses the epochs: give it or epochs=N, not both",),
    ),
    Bad("latency of no export", nothing, ["latency", "done/students"], ("is a part of a run. Give the run's folder",)),
    Bad("resume nothing", nothing, RESUME, ("Run folder 'run' does not exist",)),
    Bad(
        "resume a folder of something else",
        lambda: Path("run").mkdir(),
        RESUME,
        ("no config.yaml. Is it a run folder?",),
    ),
    Bad("resume a finished run", a_run(), RESUME, ("Run 'run' is finished: there is nothing to resume",)),
    Bad("resume with a recipe", a_run(finished=False), [*RESUME, "r.yaml"], ("give no recipe, and no --overwrite",)),
    Bad(
        "resume with another seed",
        lambda: edited("epochs: 1", "epochs: 2"),
        [*RESUME, "seed=1"],
        ("of its keys epochs, device, compile, side_by_side can be given anew, not seed",),
    ),
    Bad("resume an empty config", a_run(finished=False, config_yaml=""), RESUME, ("run/config.yaml' is damaged",)),
    Bad(
        "resume half a config",
        a_run(finished=False, config_yaml="students: {a"),
        RESUME,
        ("config.yaml' is damaged: line 1",),
    ),
    Bad(
        "resume a config that lacks keys",
        a_run(finished=False, config_yaml="epochs: 3"),
        RESUME,
        ("lacks students, tasks",),
    ),
    Bad(
        "resume a config with a wrong value",
        lambda: edited("epochs: 1", "epochs: 0"),
        RESUME,
        ("epochs should be greater",),
    ),
    Bad(
        "resume an edited config",
        lambda: edited("lr: 0.1", "lr: 0.2"),
        RESUME,
        ("differs in optimizer.lr (0.2, not 0.1)",),
    ),
    Bad(
        "resume from another run's checkpoint",
        another_checkpoint,
        RESUME,
        ("optimizer.lr (0.1, not 0.5), seed (0, not 7)", "Put config.yaml back"),
    ),
    Bad(
        "resume from some file of torch",
        another_file_of_torch,
        RESUME,
        ("run/checkpoint.pt' is not the checkpoint of a run",),
    ),
    Bad(
        "resume from half a checkpoint",
        a_run(finished=False, checkpoint_pt=b"PK half"),
        RESUME,
        ("run/checkpoint.pt' is damaged",),
    ),
    Bad(
        "train into a finished run",
        nothing,
        ["train", "epochs=1", "run=done"],
        ("already holds a finished run", "--overwrite"),
    ),
    Bad(
        "train into an unfinished run",
        a_run(finished=False),
        ["train", "run=run"],
        ("holds an unfinished run", "--resume"),
    ),
    Bad(
        "train into a folder of something else",
        lambda: write_class_folders("run"),
        ["train", "run=run"],
        ("is not empty",),
    ),
    Bad("train into a file", busy_file, ["train", "run=run"], ("Run folder 'run' is a file",)),
    Bad(
        "train beneath a file",
        busy_file,
        ["train", "run=run/a"],
        ("Run folder 'run/a' cannot be written: Not a directory",),
    ),
    Bad("train without a name", nothing, ["train", "run="], ("run= should name a folder",)),
    Bad("evaluate nothing", nothing, EVALUATE, ("Run folder 'run' does not exist",)),
    Bad("evaluate a folder of something else", lambda: write_class_folders("run"), EVALUATE, ("Is it a run folder?",)),
    Bad("evaluate a file", busy_file, EVALUATE, ("Run folder 'run' does not exist",)),
    Bad(
        "evaluate an unfinished run", a_run(finished=False), EVALUATE, ("has no summary.json. The run is not finished",)
    ),
    Bad("evaluate half a summary", a_run(summary_json='{"seed": 0,'), EVALUATE, ("run/summary.json' is damaged",)),
    Bad("evaluate a summary that lacks keys", a_run(summary_json='{"seed": 0}'), EVALUATE, ("lacks test_accuracy",)),
    Bad("evaluate without checkpoint", a_run(checkpoint_pt=None), EVALUATE, ("run/checkpoint.pt' is missing",)),
    Bad(
        "evaluate on a device without numbers", nothing, ["evaluate", "done", "--device", "meta"], ("device should be",)
    ),
    Bad("compare with nothing", nothing, COMPARE, ("Run folder 'run' does not exist",)),
    Bad(
        "compare a folder of something else",
        lambda: write_class_folders("run"),
        ["compare", "run"],
        ("Is it a run folder?",),
    ),
    Bad(
        "compare with a config of something else",
        a_run(config_yaml="students: many"),
        COMPARE,
        ("lacks students, tasks",),
    ),
    Bad(
        "compare with a summary of something else",
        a_run(summary_json="{}"),
        COMPARE,
        ("lacks test_accuracy, parameters",),
    ),
    Bad("compare with another run's summary", students_of_another_run, COMPARE, ("name different students",)),
    Bad(
        "compare with damaged answers",
        control_with_damaged_answers,
        COMPARE,
        ("run/outputs/test.safetensors' cannot be read", "Delete it"),
    ),
    Bad(
        "compare with a row that is none",
        nothing,
        ["compare", "done", "--against", "dnoe"],
        ("Unknown row 'dnoe'. Did you mean 'done'?",),
    ),
    Bad("compare in two formats", nothing, ["compare", "done", "--csv", "--latex"], ("Give one of --markdown",)),
    Bad(
        "compare with a selected accuracy of another kind",
        a_run(summary_json=SUMMARY_OF_ANOTHER_KIND),
        COMPARE,
        ("test_accuracy_selected.students", "another kind"),
    ),
    Bad("compare a run with its copy", a_run(), COMPARE, ("are the same run (seed 0)", "Leave one out")),
    Bad("compare with a run misspelt", nothing, ["compare", "doen"], ("'doen' does not exist. Did you mean 'done'?",)),
    Bad("report on a run misspelt", nothing, ["report", "doen"], ("'doen' does not exist. Did you mean 'done'?",)),
    Bad("analyse a run misspelt", nothing, ["analyse", "doen"], ("'doen' does not exist. Did you mean 'done'?",)),
    Bad("predict with a run misspelt", nothing, ["predict", "doen", "x.png"], ("Did you mean 'done'?",)),
    Bad("analyse nothing", nothing, ANALYSE, ("Run folder 'run' does not exist",)),
    Bad("analyse an unfinished run", a_run(finished=False), ANALYSE, ("no summary.json. The run is not finished",)),
    Bad("analyse a run with its copy", a_run(), ["analyse", "done", "run"], ("are the same run (seed 0)",)),
    Bad("analyse without checkpoint", a_run(checkpoint_pt=None), ANALYSE, ("run/checkpoint.pt' is missing",)),
    Bad("report on nothing", nothing, ["report", "run"], ("'run' does not exist", "a folder of runs")),
    Bad("a seed of a collapse test", nothing, ["stress", "seed=5"], ("seed is what a collapse test varies", "--seeds")),
    Bad("report on an empty folder", lambda: Path("run").mkdir(), ["report", "run"], ("no config.yaml in it or one",)),
    Bad("report on a damaged log", a_run(metrics_jsonl="{\n"), ["report", "run"], ("metrics.jsonl' is damaged",)),
    Bad("report to a folder", a_run(), ["report", "run", "--out", "run"], ("cannot be written to 'run'",)),
    Bad("analyse damaged raw material", damaged_outputs, ANALYSE, ("test.safetensors' cannot be read", "Delete it")),
]

# Exports, and what is to be predicted with.


def an_export(**files: str | None) -> Callable[[], object]:
    """One of the finished run's student a, with files changed as for ``a_run``."""

    def make() -> None:
        write_export("done", "a", out="exported")
        for name, text in files.items():
            path = Path("exported", name.replace("_json", ".json").replace("_safetensors", ".safetensors"))
            if text is None:
                path.unlink()
            else:
                path.write_text(text)

    return make


EXPORT, PREDICT = ["export", "done", "--student", "a", "--out"], ["predict", "exported", "image.png"]

EXPORTS = [
    Bad("export nothing", nothing, ["export", "run"], ("'run' does not exist",)),
    Bad("export an unfinished run", a_run(finished=False), ["export", "run"], ("The run is not finished",)),
    Bad("export without checkpoint", a_run(checkpoint_pt=None), ["export", "run", "--student", "a"], ("is missing",)),
    Bad("export to an unknown format", nothing, [*EXPORT, "x", "--to", "onxx"], ("'onxx'. Did you mean 'onnx'",)),
    Bad(
        "export an unknown student", nothing, ["export", "done", "--student", "c", "--to", "torch"], ("Choices: a, b",)
    ),
    Bad(
        "export a student misspelt",
        nothing,
        ["export", "done", "--student", "resnet8"],
        ("Unknown student of run 'done' 'resnet8'", "Choices: a, b, best"),
    ),
    Bad(
        "export a teacher that does not answer",
        nothing,
        ["export", "done", "--student", "cpm", "--to", "torch"],
        ("Method 'dml' has no teacher with an answer of its own", "best or ensemble"),
    ),
    Bad(
        "export an ensemble's weights",
        nothing,
        ["export", "done", "--student", "ensemble"],
        ("--to torch or --to onnx",),
    ),
    Bad("export weights in 8 bits", nothing, [*EXPORT, "x", "--quantize", "int8"], ("goes with --to onnx",)),
    Bad("export into a run", nothing, [*EXPORT, "done", "--overwrite"], ("'done' is not empty and holds no export",)),
    Bad("export into a file", busy_file, [*EXPORT, "run"], ("Export folder 'run' is a file",)),
    Bad("export beneath a file", busy_file, [*EXPORT, "run/x"], ("'run/x' cannot be written: Not a directory",)),
    Bad("export over an export", an_export(), [*EXPORT, "exported"], ("already holds an export", "--overwrite")),
    Bad("predict with nothing", nothing, PREDICT, ("'exported' is neither an export nor a run folder",)),
    Bad("predict with half an export", an_export(export_json="{"), PREDICT, ("exported/export.json' is damaged",)),
    Bad("predict with facts of something else", an_export(export_json="[]"), PREDICT, ("export.json' is damaged",)),
    Bad("predict without weights", an_export(model_safetensors=None), PREDICT, ("model.safetensors' is missing",)),
    Bad("predict with other weights", an_export(model_safetensors="x"), PREDICT, ("was altered", "Export again")),
    Bad("predict with an unknown network", an_export(model_json="{}"), PREDICT, ("model.json' is damaged",)),
    Bad("predict with a student of an export", an_export(), [*PREDICT, "--student", "a"], ("is for run folders",)),
    Bad("predict with an unknown student", nothing, ["predict", "done", "x.png", "--student", "c"], ("Choices: a, b",)),
    Bad("predict with an unfinished run", a_run(finished=False), ["predict", "run", "x.png"], ("is not finished",)),
]

BAD = [*IMAGES, *FILES, *PARQUET, *RECIPES, *KEYS, *RUNS, *EXPORTS]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "done"
    settings = {"students": {"a": "resnet8", "b": "resnet8"}, "data": {"per_class": 4, "validation": 0.01}}
    trainer.train(
        make_config({**settings, "epochs": 1, "batch_size": 8, "method": "dml", "tasks": "none"}), folder, Silent()
    )
    return folder


@pytest.fixture
def working_folder(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a finished run in it; and training is not to begin."""

    def begin(*_: Any, **__: Any) -> None:
        raise AssertionError("training began")

    shutil.copytree(finished_run, tmp_path / "work" / "done")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(trainer, "fit", begin)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "work"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line says, which is one line, before it exits with code 2."""
    monkeypatch.setattr(sys, "argv", ["codistill", *arguments])
    with pytest.raises(SystemExit) as exit_of_process:
        main.main()
    said = capsys.readouterr().err
    assert exit_of_process.value.code == 2, said
    assert said.startswith("Error: ")
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)
def test_what_is_wrong_is_refused_in_one_line_before_training(
    bad: Bad, working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad.make()
    before = contents(working_folder)
    starts = bad.arguments[0] == "train" and not any(word.startswith(("run=", "--resume")) for word in bad.arguments)
    said = refusal([*bad.arguments, *(["run=done", "--overwrite"] if starts else [])], monkeypatch, capsys)
    for words in bad.words:
        assert words in said
    assert contents(working_folder) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_folder_that_may_not_be_written_is_refused(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("locked").mkdir(mode=0o500)
    assert "'locked/run' cannot be written" in refusal(["train", "epochs=1", "run=locked/run"], monkeypatch, capsys)


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_data(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_class_folders("data", ["cat", "dog"])
    Path("file").touch()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "file/cache")
    said = refusal(["train", "data=./data", "batch_size=8", "epochs=1"], monkeypatch, capsys)
    assert "kept in 'file/cache/codistill-local', which should be writable: HF_HOME chooses another" in said
    assert "class folders" not in said


def test_every_row_says_something_else() -> None:
    assert len({bad.what for bad in BAD}) == len(BAD) >= 40


def test_no_file_that_is_read_can_run_code() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in Path(codistill.__file__).parent.rglob("*.py")}
    together = "\n".join(sources.values())
    assert "trust_remote_code" not in together
    assert "pickle" not in together
    assert together.count("torch.load(") == together.count("weights_only=True")
    assert [path.name for path, text in sources.items() if "yaml.load" in text or "safe_load" in text] == ["yaml.py"]
    # A program of torch.export can run code: it is opened in one place, which asks whether it is trusted.
    opening = {path.name for path, text in sources.items() if "torch.export.load(" in text}
    assert opening == {"torch_runtime.py", "card.py"}  # and told in cards
    assert issubclass(_StrictLoader, yaml.SafeLoader)
