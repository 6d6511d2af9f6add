"""What a data folder holds besides data is told."""

import os
import shutil
from pathlib import Path

import datasets
import pytest
from odd_files import write_class_folders

from codistill.data.sources.registry import open_source
from codistill.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def test_files_that_give_no_image_are_counted_and_named() -> None:
    write_class_folders("data/train")
    (Path("data") / "README.md").touch()
    (Path("data") / "train" / "cat" / "photo.heic").touch()
    (Path("data") / "train" / "dog" / "lost.png").symlink_to("nowhere.png")
    shutil.copytree("data/train/cat", "data/extra/cat")  # in no split
    (warning,) = open_source("data").warnings
    assert warning.endswith("are left out: 11 .png, 2 .heic, 1 .md, such as extra/cat/0.png.")


def test_files_left_out_are_told_by_their_endings_the_most_frequent_first() -> None:
    write_class_folders("data/train")
    for number in range(40):
        Path(f"data/train/cat/IMG_{number:02}.{'heic' if number % 2 else 'HEIC'}").touch()
    for name in ("A.txt", "B.txt", "LICENSE", "c.a", "c.b", "c.c", "c.d"):
        Path("data/train/cat", name).touch()
    (warning,) = open_source("data").warnings
    counts = "40 .heic, 2 .txt, 1 without ending, 1 .a, 1 .b, 2 other"
    assert warning.endswith(f"are left out: {counts}, such as train/cat/IMG_00.HEIC.")


def test_a_file_left_out_whose_name_is_no_text_can_be_told() -> None:
    write_class_folders("data")
    (Path("data") / "cat" / os.fsdecode(b"caf\xe9.txt")).touch()
    (warning,) = open_source("data").warnings
    assert warning.endswith("are left out: 1 .txt, such as cat/caf\\xe9.txt.")


def test_what_systems_leave_behind_and_a_link_to_the_folder_need_no_word() -> None:
    write_class_folders("data")
    (Path("data") / "cat" / ".DS_Store").touch()
    shutil.copytree("data/cat", "data/__MACOSX/cat")
    Path("link").symlink_to("data")
    source = open_source("./link")
    assert source.class_names == ("cat", "dog")
    assert source.warnings == ()


def test_images_listed_in_a_file_of_their_own_have_its_labels() -> None:
    write_class_folders("data")
    (Path("data") / "metadata.csv").write_text("file_name,kind\ncat/0.png,a\ncat/1.png,b\ndog/0.png,a\ndog/1.png,b\n")
    source = open_source("data", label="kind")
    assert source.class_names == ("a", "b")
    assert "are left out: 16 .png, such as cat/2.png" in source.warnings[0]


@pytest.mark.parametrize("linked", [["test"], ["train", "test"], ["train/cat"], ["train/cat", "train/dog", "test"]])
def test_a_folder_behind_a_link_is_named_and_not_passed_over(linked: list[str]) -> None:
    write_class_folders("data/train")
    write_class_folders("data/test")
    for folder in linked:
        moved = Path("elsewhere", folder)
        moved.parent.mkdir(parents=True, exist_ok=True)
        Path("data", folder).rename(moved)
        Path("data", folder).symlink_to(moved.absolute())
    with pytest.raises(UserError, match=f"Folder 'data/{sorted(linked)[0]}' is a link, which is not followed"):
        open_source("data")


def test_a_csv_file_may_list_images_behind_a_link() -> None:
    write_class_folders("elsewhere")
    Path("data").mkdir()
    Path("data/images").symlink_to(Path("elsewhere").absolute())
    lines = [f"images/{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(4)]
    Path("data/train.csv").write_text("\n".join(["file,label", *lines]))
    assert open_source("data").class_names == ("cat", "dog")


@pytest.mark.parametrize("split", ["", "train"])
def test_folders_within_class_folders_are_not_taken_for_classes_of_all(split: str) -> None:
    for kind in ("oak", "elm"):
        write_class_folders(Path("data", split, kind), ["2021", "2022"])
    one, other = (Path(split, kind, "2021") for kind in ("elm", "oak"))
    with pytest.raises(UserError, match=f"'{one}' and '{other}' would be one class, '2021'.*as in cat/1.png"):
        open_source("data")


def test_a_split_may_lie_in_several_folders_that_are_called_like_it() -> None:
    for place in ("data/a/train", "data/b/train", "data/a/test"):
        write_class_folders(place)
    source = open_source("data")
    assert source.class_names == ("cat", "dog")
    assert {split: len(source.labels(split)) for split in source.splits} == {"train": 40, "test": 20}
