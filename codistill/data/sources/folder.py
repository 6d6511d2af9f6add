"""Local data: what is wrong with it before it is read, and what was passed over in silence when it was.

``datasets`` reads what it recognises and leaves out the rest without a word: a class folder without images is no class,
an image with another ending is not there. Here the one is an error and the other is told.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from codistill.data.sources.folder_splits import split_of, split_of_path
from codistill.data.unicode_forms import Forms, several_forms
from codistill.errors import UserError
from codistill.errors.nearest import did_you_mean, similar_path
from codistill.errors.printable import printable

BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}  # of datasets, for single files
TABLES = (".csv", ".tsv")
FILE_ENDINGS = (*BUILDERS, *TABLES)
KINDS = 5  # endings of files that are left out are told
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # read, but not as images


class NoSuchData(UserError):
    """What a data name stands for is not there."""


def local_data(name: str) -> Path | None:
    """The folder or file that a data name stands for, None for a name on the hub.

    Raises NoSuchData where there is none, UserError where it holds no data, or a file of it was cut off.
    """
    place = os.path.expanduser(name)  # os.path takes names of any length, where Path.exists raises
    if not os.path.exists(place) and (others := Forms().find(place)):
        if len(others) > 1:
            raise UserError(f"Data '{printable(name)}' does not exist: {several_forms(others)}.")
        (place,) = others
    if not os.path.exists(place):
        is_file = name.lower().endswith(FILE_ENDINGS)
        if not is_file and not name.startswith((".", "/", "~")):
            return None
        raise NoSuchData(f"Data {'file' if is_file else 'folder'} '{name}' does not exist.{similar_data(name)}")
    if os.path.isfile(place):
        if Path(place).suffix.lower() not in FILE_ENDINGS:
            raise UserError(
                f"'{name}' is a file that cannot be read as data: {', '.join(FILE_ENDINGS)} can. Unpack an archive, or "
                "give the folder that holds the file."
            )
        _check_whole(Path(place))
        return Path(place)
    files = list(visible_files(Path(place)))
    if not files:
        check_links(Path(place))
        raise NoSuchData(f"Data folder '{name}' is empty: it should hold Parquet files or images in class folders.")
    for file in files:
        _check_whole(file)
    return Path(place)


def similar_data(name: str) -> str:
    """`` Did you mean ...?`` with a folder or file of data that exists; nothing where none is called similarly."""
    return did_you_mean(similar_path(name, lambda path: os.path.isdir(path) or path.lower().endswith(FILE_ENDINGS)))


def files_left_out(folder: Path, loaded: Collection[Path], ignored: Collection[str] = ()) -> str | None:
    """The files of a folder of images that are not among the ``loaded`` ones, by their endings, in one sentence.

    ignored: splits that were meant to be left out.
    """
    folder = folder.resolve()  # as the paths of what was loaded are
    left_out = sorted(
        file
        for file in set(visible_files(folder)).difference(loaded)
        if file.name not in METADATA and split_of_path(file.relative_to(folder)) not in ignored
    )
    if not left_out:
        return None
    endings = Counter(file.suffix.lower() for file in left_out).most_common()
    some = [f"{count:,} {readable(Path(ending)) if ending else 'without ending'}" for ending, count in endings[:KINDS]]
    if others := sum(count for _, count in endings[KINDS:]):
        some.append(f"{others:,} other")
    example = next(file for file in left_out if file.suffix.lower() == endings[0][0]).relative_to(folder)
    return (
        f"Files of '{folder}' that are no images of a split are left out: {', '.join(some)}, such as "
        f"{readable(example)}."
    )


def check_class_folders(loaded: Iterable[Path]) -> None:
    """Raises UserError for a folder beside the class folders of the ``loaded`` images that gave no image."""
    class_folders = {file.parent for file in loaded}
    names = {folder.name for folder in class_folders}
    for split in sorted({folder.parent for folder in class_folders}):
        for folder in sorted(path for path in split.iterdir() if path.is_dir() and not _hidden(path.name)):
            if folder.name not in names:  # a class that one split alone lacks is found later, with all such classes
                raise UserError(f"Class folder '{readable(folder)}' holds no image. Put images there, or remove it.")


def check_one_folder_each(data: Path, loaded: Iterable[Path]) -> None:
    """Raises UserError for a class name of several folders of one split: what lies in class folders is no class.

    loaded: the split's images. Folders called like the split itself, at several places, are meant.
    """
    above: dict[str, set[Path]] = {}
    for class_folder in {file.parent for file in loaded}:
        above.setdefault(class_folder.name, set()).add(class_folder.parent)
    for name, places in sorted(above.items()):
        if len(places) > 1 and not all(split_of(place.name) for place in places):
            one, other, *_ = (readable((place / name).relative_to(data.resolve())) for place in sorted(places))
            raise UserError(
                f"Data folder '{data}': '{one}' and '{other}' would be one class, '{printable(name)}': an image is of "
                "the class that the folder it lies in is called. Put images right into class folders, as in cat/1.png "
                "or train/cat/1.png, and the class folders of a split into one folder."
            )


def beside_folders(loaded: Iterable[Path]) -> Path | None:
    """The first of the ``loaded`` images that lies beside a folder of others, None where there is none."""
    images = sorted(loaded)
    above = {folder for file in images for folder in file.parent.parents}
    return next((file for file in images if file.parent in above), None)


def readable(file: Path) -> str:
    """A path in words that can be written in a line, also where its bytes are no text in UTF-8."""
    return printable(str(file))


def is_text(file: Path) -> bool:
    """Whether a path can be written in UTF-8, which ``datasets`` needs."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_links(data: Path) -> None:
    """Raises UserError for a folder below that is a link: ``datasets`` would pass over a class or a whole split."""
    for place, folders, _ in os.walk(data):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for folder in (Path(place, name) for name in folders):
            if folder.is_symlink():
                raise UserError(
                    f"Folder '{readable(folder)}' is a link, which is not followed. Put images there, or remove it; a "
                    "CSV file may list images behind links."
                )


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, but for hidden ones and what lies in hidden folders."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        yield from (Path(place, name) for name in files if not _hidden(name))


def _hidden(name: str) -> bool:
    """What systems and tools leave behind: nobody means it as data."""
    return name.startswith((".", "__"))


def _check_whole(file: Path) -> None:
    """A Parquet file begins and ends with four letters, an archive ends with two blocks of zeros: unless cut off."""
    ending = file.suffix.lower()
    if ending not in (".parquet", ".tar"):
        return
    with file.open("rb") as content:
        begin, size = content.read(4), file.stat().st_size
        content.seek(-min(1024, size), os.SEEK_END)
        end = content.read()
    whole = begin == b"PAR1" and end[-4:] == b"PAR1" if ending == ".parquet" else end == bytes(1024)
    if not whole:
        what = "Parquet file" if ending == ".parquet" else "tar archive"
        raise UserError(f"'{readable(file)}' is no whole {what}. It may have been cut off: copy or download it again.")
