"""Data sets through the ``datasets`` library: a local folder of Parquet files or images, or a name on the hub.

The image column and the label column are found by their types. Images are decoded here, one by one, so that one
that cannot be read is named.
"""

import io
import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codistill.data.decode import decode
from codistill.data.folder import check_class_folders, files_left_out, local_folder
from codistill.data.images import resize
from codistill.data.source import Source
from codistill.data.split import Rows
from codistill.errors import UserError, unknown

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")  # tried in this order


class HubData(Source):
    """One data set of ``datasets``. ``label``: the label column, where there are several."""

    def __init__(self, name: str, label: str | None = None) -> None:
        import datasets  # imported here: it takes a second, and the embedded data does not need it

        datasets.utils.logging.set_verbosity_error()
        datasets.disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
        self._name = name
        folder = local_folder(name)
        loaded = _load(datasets, name, folder)
        self._splits = {split: rows for split, rows in loaded.items() if split in ("train", "validation", "test")}
        if "train" not in self._splits:
            raise UserError(f"Data '{name}' has no split 'train'. Its splits: {', '.join(loaded)}.")
        features = self._splits["train"].features
        self._image = _image_column(datasets, name, features)
        self._label = _label_column(datasets, name, features, label)
        self._splits = {
            split: rows.cast_column(self._image, datasets.Image(decode=False)) for split, rows in self._splits.items()
        }
        self.class_names, self._labels = self._read_labels(self._label)
        if folder is not None and loaded["train"].info.builder_name == "imagefolder":
            self.warnings = self._check_folder(folder)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    def labels(self, split: str) -> Rows:
        return self._labels[split]

    def pixels(self, split: str, rows: Rows, image_size: int | None) -> Tensor:
        images: list[Tensor] = []
        for row, cell in zip(rows, self._splits[split].select(rows)[self._image], strict=True):
            pixels = torch.from_numpy(_decode(cell, f"Data '{self._name}', split '{split}', row {row}"))[None]
            if image_size is not None:
                pixels = resize(pixels, image_size)
            elif images and pixels.shape != images[0].shape:
                sizes = " and ".join(f"{p.shape[2]}x{p.shape[1]}" for p in (images[0], pixels))
                raise UserError(f"Data '{self._name}' has images of different sizes ({sizes}). Set data.image_size.")
            images.append(pixels)
        return torch.cat(images)

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
