"""Data sets through the ``datasets`` library: a local folder of Parquet files or images, or a name on the hub.

The image column and the label column are found by their types. Images are decoded here, one by one, so that one
that cannot be read is named.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codistill.data.images import resize
from codistill.data.source import Source
from codistill.data.split import Rows
from codistill.errors import UserError, unknown

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")  # tried in this order


def cache_folder() -> Path:
    """Where downloaded and converted data is kept."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE)


class HubData(Source):
    """One data set of ``datasets``. ``label``: the label column, where there are several."""

    def __init__(self, name: str, label: str | None = None) -> None:
        import datasets  # imported here: it takes a second, and the embedded data does not need it

        datasets.utils.logging.set_verbosity_error()
        datasets.disable_progress_bars()
        self._name = name
        loaded = _load(datasets, name)
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
        features = self._splits["train"].features
        if column not in features:
            raise unknown("label column (data.superclass)", column, features)
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

    def _encode(self, split: str, cells: list[Any], index: dict[Any, int]) -> Rows:
        for row, cell in enumerate(cells):
            if cell not in index:
                raise UserError(f"Data '{self._name}', split '{split}', row {row} has no label (got {cell!r}).")
        return np.array([index[cell] for cell in cells], dtype=np.int64)


def _load(datasets: Any, name: str) -> Any:
    folder = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or folder.exists()
    if looks_local and not folder.is_dir():
        raise UserError(f"Data folder '{name}' does not exist or is not a folder.")
    if looks_local and not any(path.is_file() for path in folder.rglob("*")):
        raise UserError(f"Data folder '{name}' is empty: it should hold Parquet files or images in class folders.")
    try:
        loaded = datasets.load_dataset(str(folder) if looks_local else name)
    except Exception as error:  # the library raises dozens of kinds; the user needs its words and ours
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = "folder" if looks_local else "name (no such local folder, so it was looked up on the hub)"
        raise UserError(f"Data {where} '{name}' could not be loaded: {reason}") from error
    return loaded


def _image_column(datasets: Any, name: str, features: Any) -> str:
    columns = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    if len(columns) != 1:
        raise UserError(f"Data '{name}' should have one image column, has {len(columns)}. Columns: {dict(features)}.")
    return str(columns[0])


def _label_column(datasets: Any, name: str, features: Any, wanted: str | None) -> str:
    possible = [column for column, kind in features.items() if isinstance(kind, (datasets.ClassLabel, datasets.Value))]
    if wanted is not None:
        if wanted not in possible:
            raise unknown("label column (data.label)", wanted, possible)
        return wanted
    named = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    for column in LABEL_COLUMNS:
        if column in (named or features):
            return column
    if len(named) == 1:
        return str(named[0])
    raise UserError(
        f"Data '{name}': which column holds the labels? Set data.label to one of: {', '.join(possible) or 'none'}."
    )


def _sorted_values(name: str, raw: dict[str, list[Any]]) -> list[Any]:
    values = {value for cells in raw.values() for value in cells if value is not None}
    try:
        return sorted(values)
    except TypeError:
        raise UserError(f"Data '{name}' mixes labels of different types. Set data.label to another column.") from None


def _decode(cell: dict[str, Any] | None, place: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An undecoded cell of the image column -> (H, W, 3) uint8. Grey becomes three equal channels."""
    if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
        raise UserError(f"{place}: there is no image.")
    path = cell.get("path")
    try:
        with Image.open(io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else str(path)) as image:
            if image.mode.startswith("I;16"):  # Pillow would cut at 255 where it should scale
                grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=-1)
            if image.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {image.mode} have no known range")
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        named = f" ({path})" if path else ""
        raise UserError(f"{place}{named}: the image cannot be decoded: {error}") from error
