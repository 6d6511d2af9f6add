"""A local data folder: what is wrong with it before it is read, and what was passed over in silence when it was.

``datasets`` reads what it recognises and leaves out the rest without a word: a class folder without images is no class,
an image with another ending is not there. Here the one is an error and the other is told.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from codistill.errors import UserError

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # read, but not as images


def local_folder(name: str) -> Path | None:
    """The folder that a data name stands for, None for a name on the hub. Raises UserError where it holds no data."""
    folder = os.path.expanduser(name)  # os.path takes names of any length, where Path.exists raises
    if not name.startswith((".", "/", "~")) and not os.path.exists(folder):
        return None
    if not os.path.isdir(folder):
        what = "is a file: give the folder that holds it" if os.path.isfile(folder) else "does not exist"
        raise UserError(f"Data folder '{name}' {what}.")
    files = list(_visible_files(Path(folder)))
    if not files:
        raise UserError(f"Data folder '{name}' is empty: it should hold Parquet files or images in class folders.")
    for file in files:
        if file.suffix == ".parquet":
            _check_whole(file)
    return Path(folder)


def files_left_out(folder: Path, loaded: Collection[Path]) -> str | None:
    """The files of a folder of images that are not among the ``loaded`` ones, in one sentence."""
    folder = folder.resolve()  # as the paths of what was loaded are
    left_out = sorted(file for file in set(_visible_files(folder)).difference(loaded) if file.name not in _METADATA)
    few = ", ".join(str(file.relative_to(folder)) for file in left_out[:3])
    return f"Files of '{folder}' that are no images of a split are left out: {len(left_out):,}, {few}." if few else None


def check_class_folders(loaded: Iterable[Path]) -> None:
    """Raises UserError for a folder beside the class folders of the ``loaded`` images that gave no image."""
    class_folders = {file.parent for file in loaded}
    names = {folder.name for folder in class_folders}
    for split in sorted({folder.parent for folder in class_folders}):
        for folder in sorted(path for path in split.iterdir() if path.is_dir() and not _hidden(path.name)):
            if folder.name not in names:  # a class that one split alone lacks is found later, with all such classes
                why = "is a link, which is not followed" if folder.is_symlink() else "holds no image"
                raise UserError(f"Class folder '{folder}' {why}. Put images there, or remove it.")


def _visible_files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(place, name) for name in files if not _hidden(name))


def _hidden(name: str) -> bool:
    """What systems and tools leave behind: nobody means it as data."""
    return name.startswith((".", "__"))


def _check_whole(file: Path) -> None:
    """A Parquet file begins and ends with four letters; one that was cut off does not end so."""
    with file.open("rb") as content:
        begin = content.read(4)
        content.seek(-min(4, file.stat().st_size), os.SEEK_END)
        if begin != b"PAR1" or content.read() != b"PAR1":
            raise UserError(f"'{file}' is no whole Parquet file. It may have been cut off: copy or download it again.")
