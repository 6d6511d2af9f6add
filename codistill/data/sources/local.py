"""Data that lies on a disk: a folder or a file, and what ``datasets`` makes of it.

folder   class folders, Parquet, Arrow, WebDataset shards (.tar), train.csv with val.csv and test.csv,
         or what ``save_to_disk`` wrote
file     one of .parquet, .arrow, .tar, .csv, .tsv: all of it is the split "train"
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from codistill.data.sources.base import leave_out, without
from codistill.data.sources.class_names import check_names_of_files
from codistill.data.sources.csv_file import check_apart, kind_of, read_csv
from codistill.data.sources.folder import (
    BUILDERS,
    FILE_ENDINGS,
    METADATA,
    TABLES,
    NoSuchData,
    check_links,
    is_text,
    readable,
    similar_data,
    visible_files,
)
from codistill.data.sources.folder_splits import check_small_letters, patterns_by_split
from codistill.data.transforms.decode import ENDINGS, is_image
from codistill.errors import UserError, first_line
from codistill.errors.printable import printable_list

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}  # and their names
_FIRST = 10  # rows that tell what a column of bytes holds
_HOW = {
    ".tar": "A WebDataset shard holds files such as 1.jpg and 1.cls for each image, with the same endings for all; "
    '.cls is a whole number, words go into 1.json as {"label": "cat"}.',
}
_FOLDERS = (
    "It should hold Parquet files or images in class folders (or Arrow files, WebDataset shards, train.csv), "
    "and nothing else."
)


class Local(NamedTuple):
    """Rows by split, and what they were read from."""

    splits: Mapping[str, Any]  # datasets.Dataset
    files: Iterable[Path]  # all that the pixels depend on
    to_ignore: Sequence[str] = ()  # splits that are still among them, and are not asked for
    class_folders: bool = False
    lines: Mapping[str, Sequence[str]] = {}  # of each row, by split, where a person wrote them


def local_cache() -> str:
    """Where ``datasets`` keeps what it made of local data: apart from data of the hub.

    It keeps a folder's rows under the folder's bare name, and takes what has a name of the hub from there when the hub
    does not give it. In one place, a folder that is not there would be another folder of that name.
    """
    import datasets

    return str(Path(datasets.config.HF_DATASETS_CACHE, "codistill-local"))


def of_a_folder(splits: Mapping[str, Any]) -> bool:
    """Whether rows asked for by a name without "/" came from a local folder, of which a copy was kept by that name.

    Versions before ``local_cache`` kept such copies, as does whoever calls ``datasets`` directly. Their place is named
    after a hash of 16 digits; that of data from the hub after a commit, of 40.
    """
    places = {Path(file["filename"]).parent.name for rows in splits.values() for file in rows.cache_files}
    return any(re.fullmatch("[0-9a-f]{16}", place) for place in places)


def load_local(path: Path, name: str, label: str | None = None, ignored: Sequence[str] = ()) -> Local:
    """A folder or a file, which the user calls ``name``. Raises UserError for what cannot be read.

    label: the column of labels, where the user named it. ignored: splits that are not read, as far as they have files
    of their own.
    """
    import datasets

    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # or a local file would be counted as a download, on the network
    cache = local_cache()
    if path.is_file():
        if path.suffix.lower() in TABLES:
            return _from_tables(without({"train": path}, ignored, name), label)
        builder, file = BUILDERS[path.suffix.lower()], str(path)
        loaded = explained(
            lambda: datasets.load_dataset(builder, data_files={"train": file}, cache_dir=cache), path, name
        )
        return Local(_flat(loaded), [path], ignored)
    files = list(visible_files(path))
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        saved = explained(lambda: datasets.load_from_disk(str(path)), path, name)
        splits = saved if isinstance(saved, dict) else {"train": saved}
        return Local({split: _with_images(rows) for split, rows in splits.items()}, files, ignored)
    tables = _tables(path)
    if "train" in tables:
        return _from_tables(without(tables, ignored, name), label)
    check_links(path)
    only_images = not any(file.suffix.lower() in FILE_ENDINGS or file.name in METADATA for file in files)
    if not only_images:
        check_small_letters(path, (file for file in files if _is_read(file)))
        check_names_of_files(files)
    patterns = patterns_by_split(path, files) if only_images else None
    if ignored:
        patterns = patterns or _patterns(path)
        if set(ignored) <= set(patterns):
            patterns, ignored = without(patterns, ignored, name), ()
    loaded = explained(lambda: datasets.load_dataset(str(path), data_files=patterns, cache_dir=cache), path, name)
    builder = next(iter(loaded.values())).info.builder_name
    if builder == "csv":
        raise UserError(
            f"Data folder '{name}' holds CSV files, none of them train.csv. Give the file that lists the images."
        )
    return Local(_flat(loaded), files, ignored, class_folders=builder == "imagefolder")


def known_splits(splits: Mapping[str, Any], name: str, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Rows of train, validation and test, whichever of its names a split has, but for those that are ``ignored``.

    Raises UserError for two of one kind.
    """
    found = {}
    for split, names in SPLITS.items():
        own = [given for given in names if given in splits]
        if len(own) > 1:
            raise UserError(f"Data '{name}' has the splits '{own[0]}' and '{own[1]}', which both validate. Leave one.")
        if own:
            found[split] = splits[own[0]]
    found = without(found, ignored, name)
    if "train" not in found:
        raise UserError(f"Data '{name}' has no split 'train'. Its splits: {', '.join(splits)}.")
    return found


def _patterns(folder: Path) -> dict[str, list[str]]:
    """Of the files of each split, as ``datasets`` finds them by their names."""
    from datasets.data_files import EmptyDatasetError, get_data_patterns

    try:
        return dict(get_data_patterns(str(folder)))
    except EmptyDatasetError:
        return {}


def _is_read(file: Path) -> bool:
    return file.suffix.lower() in (*FILE_ENDINGS, *ENDINGS)


def _tables(folder: Path) -> dict[str, Path]:
    """The CSV files of a folder that are named like a split. Raises UserError for two of one split."""
    found: dict[str, Path] = {}
    for split, names in SPLITS.items():
        possible = {f"{name}{ending}" for name in names for ending in TABLES}
        of_split = [file for file in sorted(folder.iterdir()) if file.name.lower() in possible and file.is_file()]
        if len(of_split) > 1:
            raise UserError(f"Both '{of_split[0]}' and '{of_split[1]}' list {split} images. Leave one.")
        if of_split:
            found[split] = of_split[0]
    return found


def _from_tables(paths: Mapping[str, Path], label: str | None) -> Local:
    import datasets

    tables = {split: read_csv(path, label) for split, path in paths.items()}
    names = list(tables["train"].columns)
    for split, table in tables.items():
        if list(table.columns) != names:
            raise UserError(
                f"'{paths[split]}' has the columns {printable_list(table.columns)}, and '{paths['train']}' has "
                f"{printable_list(names)}: give all of them the same. {leave_out(split)}"
            )
    check_apart(paths, tables)
    kinds = {name: kind_of(cell for table in tables.values() for cell in table.columns[name]) for name in names}
    splits, files = {}, [*paths.values()]
    for split, (columns, image, _) in tables.items():
        cells = {name: [kinds[name](cell) if cell else None for cell in columns[name]] for name in names}
        splits[split] = datasets.Dataset.from_dict(cells).cast_column(image, datasets.Image(decode=False))
        files += map(Path, columns[image])
    lines = {split: [f"'{paths[split]}', line {line}" for line in tables[split].lines.values()] for split in tables}
    return Local(splits, files, lines=lines)


def _flat(splits: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of nested columns as columns: ``json`` with a label -> ``json.label``. Images are left alone.

    Where in a shard a sample was is no label, and left out.
    """
    places = ("__key__", "__url__")
    flat = {}
    for split, rows in splits.items():
        rows = rows.remove_columns([name for name in places if name in rows.column_names])
        flat[split] = _with_images(_with_images(rows).flatten())  # bytes among other fields are found once flat
    return flat


def _with_images(rows: Any) -> Any:
    """Columns that hold whole files, as pandas and pyarrow write them, as images, where no column is one already.

    They are bytes, or bytes and a path.
    """
    import datasets

    if any(isinstance(kind, datasets.Image) for kind in rows.features.values()):
        return rows
    candidates = []
    for name, kind in rows.features.items():
        fields = kind if isinstance(kind, dict) and set(kind) <= {"bytes", "path"} else {"bytes": kind}
        content = fields.get("bytes")
        if isinstance(content, datasets.Value) and content.dtype in ("binary", "large_binary"):
            candidates.append(name)
    if len(candidates) > 1:  # labels may be bytes, too
        candidates = [name for name in candidates if _holds_images(rows, name)]
    for name in candidates:
        with suppress(ValueError, TypeError, NotImplementedError):  # a path that is no text: not what is meant
            rows = rows.cast_column(name, datasets.Image())
    return rows


def _holds_images(rows: Any, column: str) -> bool:
    """Whether the first cells of a column of bytes hold an image: one of them may be damaged."""
    cells = rows.select_columns(column)[:_FIRST][column]
    contents = (cell["bytes"] if isinstance(cell, dict) else cell for cell in cells)
    return any(content is not None and is_image(content) for content in contents)


def _of_data(error: OSError, path: Path) -> bool:
    """Whether an error is one of the data, and not of a file elsewhere."""
    if not isinstance(error.filename, str):
        return True
    file = Path(error.filename).absolute()  # a link in the folder is of the data, wherever it leads
    return any(file.is_relative_to(place) for place in (path.absolute(), path.resolve()))


def explained(load: Any, path: Path | None, name: str) -> Any:
    """What ``load`` gives. Its errors, of dozens of kinds, become a UserError in the library's words and ours."""
    try:
        return load()
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the library's own error may say only that there was one
            cause = cause.__cause__
        reason = first_line(cause).rstrip(".")
        if path is None:
            where = f"name (no such local folder, so it was looked up on the hub) '{name}'"
            raise NoSuchData(f"Data {where} could not be loaded: {reason}.{similar_data(name)}") from error
        what = "file" if path.is_file() else "folder"
        if isinstance(cause, UnicodeEncodeError):
            for file in [path] if path.is_file() else sorted(visible_files(path)):
                if not is_text(file):
                    raise UserError(
                        f"The name of '{readable(file)}' is not text in UTF-8. Rename it, or its folder."
                    ) from error
        if isinstance(cause, OSError) and not _of_data(cause, path):  # nothing is wrong with the data
            raise UserError(
                f"Data {what} '{name}' could not be loaded: {reason}. What is read is kept in '{local_cache()}', which "
                "should be writable: HF_HOME chooses another place."
            ) from error
        kinds = {path.suffix.lower()} if path.is_file() else {file.suffix.lower() for file in visible_files(path)}
        how = [text for ending, text in _HOW.items() if ending in kinds] or ([_FOLDERS] if what == "folder" else [])
        raise UserError(" ".join([f"Data {what} '{name}' could not be loaded: {reason}.", *how])) from error
