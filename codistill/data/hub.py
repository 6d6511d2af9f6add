"""Data sets through the ``datasets`` library: a local folder of Parquet files or images, or a name on the hub.

The image column and the label column are found by their types. Images are decoded here, one by one, so that one
that cannot be read is named, and kept by ``codistill.data.cache``.
"""

import io
import itertools
import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codistill.data.cache import cached
from codistill.data.cache_entry import Contents, digest, state_of_files
from codistill.data.folder import check_class_folders, files_left_out, local_folder
from codistill.data.images import gather, resize
from codistill.data.source import Progress, Source
from codistill.data.split import Rows
from codistill.errors import UserError, unknown
from codistill.pixels.decode import decode

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")  # tried in this order


def download_folder() -> Path:
    """Where downloaded and converted data is kept."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE)


class HubData(Source):
    """One data set of ``datasets``.

    label: the label column, where there are several. cache: keep decoded images on disk, else only in memory.
    progress: told while images are decoded.
    """

    def __init__(
        self, name: str, label: str | None = None, *, cache: bool = True, progress: Progress | None = None
    ) -> None:
        import datasets  # imported here: it takes a second, and the embedded data does not need it

        datasets.utils.logging.set_verbosity_error()
        datasets.disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
        self._name, self._cache, self._progress = name, cache, progress
        self._folder = local_folder(name)
        loaded = _load(datasets, name, self._folder)
        self._splits = {split: rows for split, rows in loaded.items() if split in ("train", "validation", "test")}
        if "train" not in self._splits:
            raise UserError(f"Data '{name}' has no split 'train'. Its splits: {', '.join(loaded)}.")
        features = self._splits["train"].features
        self._image = _image_column(datasets, name, features)
        self._label = _label_column(datasets, name, features, label)
        self._fingerprints = {split: rows._fingerprint for split, rows in self._splits.items()}
        self._splits = {
            split: rows.cast_column(self._image, datasets.Image(decode=False)) for split, rows in self._splits.items()
        }
        self.class_names, self._labels = self._read_labels(self._label)
        if self._folder is not None and loaded["train"].info.builder_name == "imagefolder":
            self.warnings = self._check_folder(self._folder)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    def labels(self, split: str) -> Rows:
        return self._labels[split]

    def pixels(self, split: str, rows: Rows, image_size: int | None) -> Tensor:
        images = self._decoded(split, rows, image_size)
        if not self._cache:
            return gather(images, len(rows))
        data, files = self._origin
        state = f"{self._fingerprints[split]} {files}"
        contents = Contents(data, state, split, self._image, digest(rows.astype("<i8").tobytes()), image_size)
        return cached(contents, images, len(rows))

    def _decoded(self, split: str, rows: Rows, image_size: int | None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 of each row in turn."""
        told = self._progress or (lambda done, total: None)
        told(0, len(rows))
        first: torch.Size | None = None
        cells = self._splits[split].select(rows).select_columns(self._image)
        for done, (row, cell) in enumerate(zip(rows, cells, strict=True), start=1):
            place = f"Data '{self._name}', split '{split}', row {row}"
            pixels = torch.from_numpy(_decode(cell[self._image], place))
            if image_size is not None:
                pixels = resize(pixels[None], image_size)[0]
            first = first or pixels.shape
            if pixels.shape != first:
                sizes = " and ".join(f"{width}x{height}" for height, width, _ in (first, pixels.shape))
                raise UserError(f"Data '{self._name}' has images of different sizes ({sizes}). Set data.image_size.")
            yield pixels
            told(done, len(rows))

    @cached_property
    def _origin(self) -> tuple[str, str]:
        """Where the data is, in words, and a hash of its files where it is a folder."""
        if self._folder is None:
            return self._name, ""  # the library's fingerprint holds the revision
        return str(self._folder.resolve()), state_of_files(self._folder)

    def superclasses(self, column: str) -> Rows:
        possible = _label_columns(self._splits["train"].features)
        if column not in possible:
            raise unknown("label column (data.superclass)", column, possible)
        names, coarse = self._read_labels(column)
        found = np.full(len(self.class_names), -1)
        for split, labels in self._labels.items():
            for label, superclass in np.unique(np.stack([labels, coarse[split]], axis=1), axis=0):
                if found[label] not in (-1, superclass):
                    raise UserError(
                        f"Data '{self._name}': column '{column}' (data.superclass) should hold one superclass for each "
                        f"class, but class '{self.class_names[label]}' has images of both '{names[found[label]]}' and "
                        f"'{names[superclass]}'."
                    )
                found[label] = superclass
        return found

    def _read_labels(self, column: str) -> tuple[tuple[str, ...], dict[str, Rows]]:
        """A column's names, given (ClassLabel) or found (sorted values of all splits), and its labels by split."""
        import datasets

        raw = {split: rows.with_format(None)[column][:] for split, rows in self._splits.items()}
        kind = self._splits["train"].features[column]
        named = isinstance(kind, datasets.ClassLabel)
        values = list(range(len(kind.names))) if named else _sorted_values(self._name, raw)
        index = {value: label for label, value in enumerate(values)}
        labels = {split: self._encode(split, cells, index) for split, cells in raw.items()}
        return tuple(kind.names) if named else tuple(map(str, values)), labels

    def _check_folder(self, folder: Path) -> tuple[str, ...]:
        """What was left out of a folder of images. Raises UserError for a class folder without images."""
        cells = itertools.chain.from_iterable(rows[self._image][:] for rows in self._splits.values())
        loaded = {Path(cell["path"]) for cell in cells}
        check_class_folders(loaded)
        return tuple(filter(None, [files_left_out(folder, loaded)]))

    def _encode(self, split: str, cells: list[Any], index: dict[Any, int]) -> Rows:
        for row, cell in enumerate(cells):
            if cell not in index:
                raise UserError(
                    f"Data '{self._name}', split '{split}', row {row}: the label {cell!r} is none of the {len(index)} "
                    "classes. Correct it, or remove the row."
                )
        return np.array([index[cell] for cell in cells], dtype=np.int64)


def _load(datasets: Any, name: str, folder: Path | None) -> Any:
    try:
        return datasets.load_dataset(name if folder is None else str(folder))
    except Exception as error:  # the library raises dozens of kinds; the user needs its words and ours
        cause: BaseException = error
        while cause.__cause__ is not None:  # the library's own error may say only that there was one
            cause = cause.__cause__
        reason = (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")
        if folder is None:
            where = f"name (no such local folder, so it was looked up on the hub) '{name}'"
            raise UserError(f"Data {where} could not be loaded: {reason}.") from error
        raise UserError(
            f"Data folder '{name}' could not be loaded: {reason}. "
            "It should hold Parquet files or images in class folders, and nothing else."
        ) from error


def _image_column(datasets: Any, name: str, features: Any) -> str:
    columns = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(columns) != 1:
        raise UserError(
            f"Data '{name}' should have one image column, has {', '.join(columns) or 'none'}. Its columns: "
            f"{', '.join(features)}. Leave one column of images; a folder of images should hold nothing else."
        )
    return str(columns[0])


def _label_columns(features: Any) -> list[str]:
    """The columns that can hold labels: those of single values."""
    import datasets

    return [column for column, kind in features.items() if isinstance(kind, (datasets.ClassLabel, datasets.Value))]


def _label_column(datasets: Any, name: str, features: Any, wanted: str | None) -> str:
    possible = _label_columns(features)
    if wanted is not None:
        if wanted not in possible:
            raise unknown("label column (data.label)", wanted, possible)
        return wanted
    named = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    for column in LABEL_COLUMNS:
        if column in (named or possible):
            return column
    if len(named) == 1:
        return str(named[0])
    if not possible:
        raise UserError(
            f"Data '{name}' has no labels. Images should lie in two class folders or more, all at one depth, as in "
            "cat/1.png or train/cat/1.png; a Parquet file should have a label column."
        )
    raise UserError(f"Data '{name}': which column holds the labels? Set data.label to one of: {', '.join(possible)}.")


def _sorted_values(name: str, raw: dict[str, list[Any]]) -> list[Any]:
    values = {value for cells in raw.values() for value in cells if value is not None and value == value}  # not NaN
    if fractions := [value for value in values if isinstance(value, float) and not value.is_integer()]:
        raise UserError(
            f"Data '{name}': labels such as {fractions[0]} are no classes. Set data.label to another column."
        )
    try:
        return sorted(values)
    except TypeError:
        raise UserError(f"Data '{name}' mixes labels of different types. Set data.label to another column.") from None


def _decode(cell: dict[str, Any] | None, place: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An undecoded cell of the image column -> (H, W, 3) uint8. Raises UserError that names the place and the file."""
    if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
        raise UserError(f"{place}: there is no image. Remove the row, or give it one.")
    path = cell.get("path")
    try:
        return decode(io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else str(path))
    except ValueError as error:
        named = f" ({path})" if path else ""
        raise UserError(f"{place}{named}: the image cannot be decoded: {error}. Replace it or remove it.") from error
