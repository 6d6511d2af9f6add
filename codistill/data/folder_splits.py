"""Which images of a folder are train, validation and test, where names would mislead ``datasets``.

It looks for the words of splits anywhere in a path: of ``test/train/1.png``, a picture of a locomotive, it makes a test
image and a training image. Here the class folder and the file say nothing of the split; the folders above them do.
"""

import glob
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

_WORDS = {  # as in datasets
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
_PATTERNS = {split: re.compile(rf"(^|[-._ 0-9])({words})($|[-._ 0-9])") for split, words in _WORDS.items()}


def patterns_by_split(folder: Path, files: Iterable[Path]) -> dict[str, list[str]] | None:
    """``data_files`` for ``datasets.load_dataset``: patterns of images in class folders, below ``folder``.

    files: all of the folder. None where ``datasets`` is not misled, or where there are no class folders.
    """
    images = [path for path in (file.relative_to(folder) for file in files) if len(path.parts) > 1]
    above: dict[str, set[PurePath]] = {}
    misled = False
    for *parents, class_folder, _ in (image.parts for image in images):
        named = [place for place, parent in enumerate(parents) if _split_of(parent)]
        if named:
            above.setdefault(_split_of(parents[named[0]]), set()).add(PurePath(*parents[: named[0] + 1]))
        misled |= len(named) > 1 or bool(_split_of(class_folder))
    if above:
        found = {split: sorted(f"{glob.escape(str(place))}/**" for place in places) for split, places in above.items()}
        return found if misled else None
    class_folders = {_split_of(image.parts[-2]) for image in images}
    if "" not in class_folders:
        return None  # splits without class folders
    if not misled:
        told = sum(bool(_split_of(image.name)) for image in images)
        misled = 0 < told < len(images)  # if all files tell their split, they mean it
    return {"train": ["**"]} if misled else None


def _split_of(name: str) -> str:
    """The split that a folder or file is named after, "" if none."""
    return next((split for split, pattern in _PATTERNS.items() if pattern.search(name)), "")
