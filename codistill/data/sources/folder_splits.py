"""Which images of a folder are train, validation and test, where names would mislead ``datasets``.

It looks for the words of splits anywhere in a path: of ``test/train/1.png``, a picture of a locomotive, it makes a test
image and a training image. Here the class folder and the file say nothing of the split; the folders above them do.
And it knows the words in small letters alone: the images of ``Test`` would be trained on.
"""

import glob
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from codistill.data.transforms.decode import ENDINGS
from codistill.errors import UserError

_WORDS = {  # as in datasets
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_PATTERNS = {
    split: re.compile(rf"(^|[-._ 0-9])({'|'.join(words)})($|[-._ 0-9])", re.IGNORECASE)
    for split, words in _WORDS.items()
}


def patterns_by_split(folder: Path, files: Iterable[Path]) -> dict[str, list[str]] | None:
    """``data_files`` for ``datasets.load_dataset``: patterns of images in class folders, below ``folder``.

    files: all of the folder. None where ``datasets`` is not misled, or where there are no class folders.
    Raises UserError if all files are named after several splits, and some of them in capitals.
    """
    images = [path for path in (file.relative_to(folder) for file in files) if len(path.parts) > 1]
    above: dict[str, set[PurePath]] = {}
    misled = False
    for *parents, class_folder, _ in (image.parts for image in images):
        named = [place for place, parent in enumerate(parents) if split_of(parent)]
        if named:
            above.setdefault(split_of(parents[named[0]]), set()).add(PurePath(*parents[: named[0] + 1]))
        misled |= len(named) > 1 or bool(split_of(class_folder)) or any(map(_in_capitals, parents))
    if above:
        found = {split: sorted(f"{glob.escape(str(place))}/**" for place in places) for split, places in above.items()}
        return found if misled else None
    class_folders = {image.parent for image in images}
    if all(split_of(place.name) for place in class_folders):  # splits without class folders
        if not any(_in_capitals(place.name) for place in class_folders):
            return None
        for place in class_folders:
            above.setdefault(split_of(place.name), set()).add(place)
        return {split: sorted(f"{glob.escape(str(place))}/**" for place in places) for split, places in above.items()}
    if not misled:
        told = {image: split_of(image.name) for image in images}
        misled = any(told.values()) and not all(told.values())  # if all files tell their split, they mean it
        if not misled and len(set(told.values())) > 1:
            for image in images:
                _check_letters(image.name, folder / image)
    return {"train": ["**"]} if misled else None


def check_small_letters(folder: Path, files: Iterable[Path]) -> None:
    """Raises UserError where ``datasets`` would take a split for more of train, for the capitals in its name.

    files: all of a folder that holds more than images in class folders.
    """
    for file in sorted(files):
        parts = file.relative_to(folder).parts
        for part in parts[:-1] if file.suffix.lower() in ENDINGS else parts:
            _check_letters(part, file)


def _check_letters(part: str, file: Path) -> None:
    if _in_capitals(part):
        raise UserError(
            f"'{part}' of '{file}' would not be taken for a split, for its capitals. Call it '{part.lower()}'."
        )


def _in_capitals(name: str) -> bool:
    """Whether a folder or file is named after a split, but not in small letters."""
    found = [pattern.search(name) for pattern in _PATTERNS.values()]
    words = [match[2] for match in found if match]
    return bool(words) and not any(word.islower() for word in words)


def split_of(name: str) -> str:
    """The split that a folder or file is named after, "" if none."""
    return next((split for split, pattern in _PATTERNS.items() if pattern.search(name)), "")


def split_of_path(path: PurePath) -> str:
    """The split that the first of its folders, or else the file, is named after; "" if none is."""
    return next(filter(None, map(split_of, path.parts)), "")


def split_called(word: str) -> str:
    """The split of which a word is the whole name, "" if none."""
    return next((split for split, words in _WORDS.items() if word in words), "")
