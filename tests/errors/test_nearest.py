"""What is suggested for a name or a path that there is not."""

from pathlib import Path

import pytest

from codistill.errors.nearest import did_you_mean, nearest, similar_path

KEYS = ["batch_size", "weights", "data.image_size", "data.resize", "optimizer.lr", "optimizer.lr_factors", "data.seed"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("image_size", ["data.image_size"]),  # the last part, though batch_size has as many letters in common
        ("Image-Size", ["data.image_size"]),
        ("data.size", ["data.image_size"]),  # a whole word of it, in the same place
        ("size", ["batch_size", "data.image_size"]),
        ("lr", ["optimizer.lr"]),
        ("data.lr", ["optimizer.lr"]),
        ("batchsize", ["batch_size"]),
        ("optimiser.lr_factor", ["optimizer.lr_factors"]),
        ("weight", ["weights"]),
        ("telescope", []),
        ("", []),
    ],
)
def test_the_last_part_of_a_name_counts_first_then_its_words_then_its_letters(given: str, found: list[str]) -> None:
    assert nearest(given, KEYS) == found


def test_of_equally_near_names_as_many_are_given_as_are_asked_for() -> None:
    assert nearest("resnet8", ["resnet8_1", "resnet8_2", "resnet8_3"]) == ["resnet8_1", "resnet8_2"]
    assert nearest("resnet8", ["resnet8_1", "resnet8_2", "resnet8_3"], most=1) == ["resnet8_1"]
    assert nearest("x", []) == []


def test_suggestions_are_put_into_words() -> None:
    assert did_you_mean([]) == ""
    assert did_you_mean(["a", "b"]) == " Did you mean 'a' or 'b'?"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photos" / "pets" / "train").mkdir(parents=True)
    (tmp_path / "photos" / "notes.txt").touch()
    (tmp_path / ".photo").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("photo", ["photos"]),  # not what is hidden
        ("Photos", ["photos"]),
        ("./fotos/pets", ["photos/pets"]),
        ("photo/pet/train", ["photos/pets/train"]),
        ("pets", ["photos/pets"]),  # one level deeper
        ("photos/note.txt", []),  # a folder is wanted
        ("photos/pets/test", []),
        ("photos/birds", []),
        ("photos", []),  # it exists
        ("nothing/of/the/kind", []),
    ],
)
def test_a_folder_that_exists_is_suggested_for_one_misspelt(photos: Path, given: str, found: list[str]) -> None:
    assert similar_path(given, lambda path: Path(path).is_dir()) == found
    absolute = [str(photos / name) for name in found]
    assert similar_path(photos / given, lambda path: Path(path).is_dir()) == absolute
