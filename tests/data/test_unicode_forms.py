"""Names in another Unicode form than on the disk: in a CSV file, in ``data=`` and for ``predict``."""

import io
import unicodedata
from pathlib import Path

import datasets
import numpy as np
import pytest
from odd_files import encode, noise, write_class_folders

from codistill.data.sources.registry import open_source
from codistill.data.splits import prepare
from codistill.errors import UserError, unknown
from codistill.export.paths import image_paths

ONE, TWO = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    Path(ONE).touch()
    if Path(TWO).exists():
        pytest.skip("this file system takes both forms for one name")
    Path(ONE).unlink()


def listing(written: str, *on_disk: str) -> None:
    """A CSV file of four images in a folder of that name, and the folders that are there."""
    for folder in on_disk:
        Path(folder).mkdir()
        for number in range(4):
            Path(folder, f"{folder}{number}.png").write_bytes(encode(noise(number)))
    lines = [f"{written}/{written}{number}.png,{'ab'[number % 2]}" for number in range(4)]
    Path("list.csv").write_text("\n".join(["file,kind", *lines]), encoding="utf-8")


@pytest.mark.parametrize(("written", "on_disk"), [(ONE, TWO), (TWO, ONE), (ONE, ONE)])
def test_a_csv_file_finds_images_in_any_form_of_their_names(written: str, on_disk: str) -> None:
    listing(written, on_disk)
    source = open_source("list.csv")
    pixels = source.pixels("train", np.arange(4), None)
    assert all(np.array_equal(image, noise(number)) for number, image in enumerate(pixels))
    assert source.place("train", 0) == f"'{on_disk}/{on_disk}0.png'"


def test_of_two_files_that_differ_in_form_the_one_that_is_written_is_taken() -> None:
    listing(ONE, ONE, TWO)
    assert open_source("list.csv").place("train", 0) == f"'{ONE}/{ONE}0.png'"


def test_a_name_in_a_third_form_that_two_files_may_have_is_told() -> None:
    below, above = "\N{COMBINING DOT BELOW}", "\N{COMBINING CIRCUMFLEX ACCENT}"
    third, written = f"ca{below}{above}", f"ca{above}{below}"
    assert unicodedata.normalize("NFC", third) == unicodedata.normalize("NFC", written) not in (third, written)
    for name in (third, unicodedata.normalize("NFC", third)):
        Path(f"{name}.png").write_bytes(encode(noise(0)))
    Path("list.csv").write_text(f"file,kind\n{written}.png,a\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2: there is no file .* \(2 files have this name in other Unicode forms"):
        open_source("list.csv")
    Path(third).mkdir()
    Path(unicodedata.normalize("NFC", third)).mkdir()
    with pytest.raises(UserError, match="2 files have this name in other Unicode forms"):
        open_source(written)
    missing: list[tuple[str, str]] = []
    assert list(image_paths([f"{written}.png"], io.StringIO(), lambda *told: missing.append(told))) == []
    assert "'c\\u1ead.png'" in missing[0][1]


def test_an_image_that_is_listed_in_both_forms_is_listed_twice() -> None:
    listing(ONE, TWO)
    with Path("list.csv").open("a", encoding="utf-8") as file:
        file.write(f"\n{TWO}/{TWO}0.png,a")
    with pytest.raises(UserError, match=r"line 6: .* is in line 2 already"):
        open_source("list.csv")


def test_a_file_that_is_not_there_in_any_form_is_named() -> None:
    listing(ONE, TWO)
    Path(TWO, f"{TWO}2.png").unlink()
    with pytest.raises(UserError, match=r"line 4: there is no file .* \(paths are relative"):
        open_source("list.csv")


def test_data_is_found_in_any_form_of_its_name() -> None:
    write_class_folders(TWO, ["ash", "oak"], count=4)
    for name in (ONE, f"./{ONE}", str(Path(ONE).absolute())):
        assert open_source(name).class_names == ("ash", "oak")
    listing(ONE)
    Path("list.csv").write_text(f"file,kind\n{ONE}/ash/0.png,a\n{ONE}/oak/0.png,b\n", encoding="utf-8")
    Path("list.csv").rename(f"{TWO}.csv")
    assert open_source(f"{ONE}.csv").class_names == ("a", "b")


def test_predict_finds_files_folders_and_patterns_in_any_form() -> None:
    listing(ONE, TWO)
    missing: list[tuple[str, str]] = []

    def found(*arguments: str, listed: str = "") -> list[str]:
        return list(image_paths(arguments, io.StringIO(listed), lambda *told: missing.append(told)))

    files = [f"{TWO}/{TWO}{number}.png" for number in range(4)]
    assert found(f"{ONE}/{ONE}0.png") == found("-", listed=f"{ONE}/{ONE}0.png\n") == files[:1]
    assert found(ONE) == found(f"{ONE}/*.png") == found(f"{ONE}/{ONE}[0-9].png") == files
    assert found(str(Path(ONE, f"{ONE}0.png").absolute())) == [str(Path(files[0]).absolute())]
    assert missing == []
    assert found(f"{ONE}/{ONE}9.png") == []
    assert missing == [(f"{ONE}/{ONE}9.png", "there is no such file")]


def test_classes_of_two_splits_that_differ_in_form_are_told_with_how_they_differ() -> None:
    write_class_folders("data/train", [ONE, "oak"], count=4)
    write_class_folders("data/test", [TWO, "oak"], count=4)
    with pytest.raises(UserError) as told:
        prepare(open_source("data"))
    words = r"It has images of 'caf\xe9', which differs from 'cafe\u0301' only in spaces or Unicode form"
    assert words in str(told.value)


def test_an_unknown_name_that_is_there_in_another_form_is_told_as_such() -> None:
    assert r"in another Unicode form, 'cafe\u0301', not 'caf\xe9': write it so" in str(
        unknown("column", ONE, ["x", TWO])
    )
