"""Data sets through the ``datasets`` library: a local folder or file, or a name on the hub.

The image column and the label column are found by their types. Images are decoded here, one by one, so that one
that cannot be read is named, and kept by ``codistill.data.cache``.
"""

import copy
import io
import itertools
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codistill.data.cache import cached
from codistill.data.cache_entry import Contents, digest, state_of_files
from codistill.data.classes import too_few_classes, warning_of_unlabelled
from codistill.data.images import gather
from codistill.data.images import resize as resized
from codistill.data.labels import read_labels
from codistill.data.rows import Rows
from codistill.data.sources.base import Progress, Source, leave_out
from codistill.data.sources.class_names import first_other_name
from codistill.data.sources.columns import image_column, label_column, label_columns, no_labels
from codistill.data.sources.folder import (
    NoSuchData,
    beside_folders,
    check_class_folders,
    check_one_folder_each,
    files_left_out,
    local_data,
    readable,
    similar_data,
)
from codistill.data.sources.folder_splits import split_of
from codistill.data.sources.local import SPLITS, Local, explained, known_splits, load_local, of_a_folder
from codistill.data.transforms.decode import decode
from codistill.errors import UserError, unknown
from codistill.errors.printable import printable

SHOWN = 10  # images that cannot be decoded
ALSO_TRIED = 20_000  # images that are not asked for, decoded only once one that is asked for cannot be


def download_folder() -> Path:
    """Where downloaded and converted data is kept."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE)


class HubData(Source):
    """One data set of ``datasets``.

    label: the label column, where there are several. cache: keep decoded images on disk, else only in memory.
    progress: told while images are decoded. ignore_splits: are left out, and none of their labels read.
    """

    def __init__(
        self,
        name: str,
        label: str | None = None,
        *,
        cache: bool = True,
        progress: Progress | None = None,
        ignore_splits: Sequence[str] = (),
    ) -> None:
        import datasets  # imported here: it takes a second, and the embedded data does not need it

        datasets.utils.logging.set_verbosity_error()
        datasets.disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
        self._name, self._cache, self._progress = name, cache, progress
        self._path = local_data(name)
        if self._path is None:
            loaded = Local(_from_hub(name), [], ignore_splits)
        else:
            loaded = load_local(self._path, name, label, ignore_splits)
        self._files, self._lines, self._ignored = loaded.files, loaded.lines, ignore_splits
        self._splits = known_splits(loaded.splits, name, loaded.to_ignore)
        if left_out := [split for split in loaded.splits if not any(split in names for names in SPLITS.values())]:
            self.warnings = (f"Splits of data '{name}' that are not used: {', '.join(left_out)}.",)
        features = self._splits["train"].features
        self._image = image_column(name, self._splits["train"])
        self._class_folders = loaded.class_folders
        if self._class_folders and label is None and not label_columns(features):
            raise self._no_labels()
        self._label = label_column(name, features, label)
        self._check_columns()
        self._fingerprints = {split: rows._fingerprint for split, rows in self._splits.items()}
        self._splits = {
            split: rows.cast_column(self._image, datasets.Image(decode=False)) for split, rows in self._splits.items()
        }
        self._earlier = False
        self._known_good = {split: np.zeros(len(rows), dtype=bool) for split, rows in self._splits.items()}
        self.class_names, self._labels = self._read_labels(self._label)
        counts = np.bincount(np.concatenate([*self._labels.values()]), minlength=len(self.class_names))
        if told := warning_of_unlabelled(self.class_names, counts.tolist()):
            self.warnings += (told,)
        if self._path is not None and self._class_folders:
            self.warnings += self._check_folder(self._path)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._splits)

    def labels(self, split: str) -> Rows:
        return self._labels[split]

    def pixels(self, split: str, rows: Rows, image_size: int | None, resize: str = "squash") -> Tensor:
        pixels = self._pixels(split, rows, image_size, resize)
        self._known_good[split][rows] = True
        return pixels

    def _pixels(self, split: str, rows: Rows, image_size: int | None, resize: str) -> Tensor:
        images = self._decoded(split, rows, image_size, resize)
        if not self._cache:
            return gather(images, len(rows))
        data, files = self._origin
        state = f"{self._fingerprints[split]} {files}"
        order = digest(rows.astype("<i8").tobytes())
        how = resize if image_size is not None else ""
        contents = Contents(data, state, split, self._image, order, image_size, how)
        return cached(contents, images, len(rows))

    def place(self, split: str, row: int) -> str:
        cell = self._splits[split][row][self._image]
        if self._path is None or cell is None or cell["bytes"] is not None:
            return super().place(split, row)
        folder = self._path if self._path.is_dir() else self._path.parent
        file = Path(cell["path"])
        for above in (folder.absolute(), folder.resolve()):
            file = file.relative_to(above) if file.is_relative_to(above) else file
        return f"'{readable(file)}'"

    def _decoded(self, split: str, rows: Rows, image_size: int | None, resize: str) -> Iterator[Tensor]:
        """(H, W, 3) uint8 of each row in turn. Raises UserError that names those that cannot be decoded."""
        told = self._progress or (lambda done, total: None)
        told(0, len(rows))
        first: torch.Size | None = None
        broken: list[str] = []
        cells = self._splits[split].select(rows).select_columns(self._image)
        for done, (row, cell) in enumerate(zip(rows, cells, strict=True), start=1):
            try:
                pixels = torch.from_numpy(_decode(cell[self._image], self._row(split, row)))
            except UserError as error:
                broken.append(str(error))
            else:
                self._known_good[split][row] = True
            told(done, len(rows))
            if broken:
                continue
            if image_size is not None:
                pixels = resized(pixels[None], image_size, resize)[0]
            first = first or pixels.shape
            if pixels.shape != first:
                sizes = " and ".join(f"{width}x{height}" for height, width, _ in (first, pixels.shape))
                raise UserError(
                    f"Data '{self._name}' has images of different sizes ({sizes}). Set "
                    "data.image_size, such as 224, and data.resize=crop or pad if they should keep their proportions."
                )
            yield pixels
        if broken:
            others, untried = self._other_broken(split, rows)
            raise UserError(_all_of([*broken, *others], untried))

    def _other_broken(self, split: str, rows: Rows) -> tuple[list[str], int]:
        """What is wrong with images that were not decoded yet: all can be mended at once; and how many are untried.

        rows: of ``split``, which were tried.
        """
        left: list[tuple[str, Rows]] = []
        for other, good in self._known_good.items():
            tried = rows if other == split else rows[:0]
            left.append((other, np.setdiff1d(np.flatnonzero(~good), tried)))
        total = sum(len(own) for _, own in left)
        told, done, broken = self._progress or (lambda done, total: None), 0, list[str]()
        for other, own in left:
            own = own[: max(ALSO_TRIED - done, 0)]
            cells = self._splits[other].select(own).select_columns(self._image)
            for row, cell in zip(own, cells, strict=True):
                try:
                    _decode(cell[self._image], self._row(other, row))
                except UserError as error:
                    broken.append(str(error))
                done += 1
                told(done, min(total, ALSO_TRIED))
        return broken, total - done

    @cached_property
    def _origin(self) -> tuple[str, str]:
        """Where the data is, in words, and a hash of its files where it lies on a disk."""
        if self._path is None:
            return self._name, ""  # the library's fingerprint holds the revision
        return str(self._path.resolve()), state_of_files(self._path.parent, self._files)

    def superclasses(self, column: str) -> Rows:
        possible = label_columns(self._splits["train"].features)
        if column not in possible:
            raise unknown("label column (data.superclass)", column, possible)
        names, coarse = self._read_labels(column)
        found = np.full(len(self.class_names), -1)
        for split, labels in self._labels.items():
            for label, superclass in np.unique(np.stack([labels, coarse[split]], axis=1), axis=0):
                if found[label] not in (-1, superclass):
                    raise UserError(
                        f"Data '{self._name}': column '{column}' (data.superclass) should hold one superclass for each "
                        f"class, but class '{printable(self.class_names[label])}' has images of both "
                        f"'{printable(names[found[label]])}' and '{printable(names[superclass])}'."
                    )
                found[label] = superclass
        return found

    def as_earlier(self) -> "HubData | None":
        other = copy.copy(self)
        other._earlier = True
        other.class_names, other._labels = other._read_labels(self._label)
        return None if other.class_names == self.class_names else other

    def _read_labels(self, column: str) -> tuple[tuple[str, ...], dict[str, Rows]]:
        """A column's names, given (ClassLabel) or found, and its labels by split."""
        import datasets

        cells = {split: rows.with_format(None)[column][:] for split, rows in self._splits.items()}
        if self._class_folders and any(None in own for own in cells.values()):
            raise self._no_labels()  # the folders of images are splits
        rows = self._splits["train"]
        kind = rows.features[column]
        table = kind.names if isinstance(kind, datasets.ClassLabel) else None
        of_folders = rows.info.builder_name == "imagefolder"
        return read_labels(self._name, cells, table, self._row, folders=of_folders, earlier=self._earlier)

    def _check_columns(self) -> None:
        """Splits that were saved one by one may number other classes, or lack a column."""
        import datasets

        expected = {column: self._splits["train"].features[column] for column in (self._image, self._label)}
        for split, rows in self._splits.items():
            for column, kind in expected.items():
                empty = column == self._label and rows.features.get(column) == datasets.Value("null")  # told as such
                own = rows.features.get(column)
                if own != kind and not empty:
                    differs = first_other_name(*(getattr(one, "names", None) or () for one in (own, kind)))
                    raise UserError(
                        f"Data '{self._name}': column '{column}' of split '{split}' is not of the same kind, or not "
                        f"with the same class names, as that of train{differs}. Save the splits alike. "
                        f"{leave_out(split)}"
                    )

    def _files_of_splits(self) -> list[list[Path]]:
        """The images of a folder, of each split."""
        import datasets

        undecoded = (rows.cast_column(self._image, datasets.Image(decode=False)) for rows in self._splits.values())
        return [[Path(cell["path"]) for cell in rows[self._image][:]] for rows in undecoded]

    def _no_labels(self) -> UserError:
        files = [*itertools.chain.from_iterable(self._files_of_splits())]
        folders = {file.parent for file in files}
        names = {folder.name for folder in folders}
        if self._path is not None and len(names) == 1 and self._path.resolve() not in folders:
            (name,) = names
            if not split_of(name) or all(split_of(folder.parent.name) for folder in folders):
                return too_few_classes([name])
        beside = beside_folders(files)
        if beside is None or self._path is None:
            return no_labels(self._name)
        return no_labels(self._name, str(Path(self._name, beside.relative_to(self._path.resolve()))))

    def _check_folder(self, folder: Path) -> tuple[str, ...]:
        """What was left out of a folder of images. Raises UserError for a class folder without images."""
        by_split = self._files_of_splits()
        paths = Counter(itertools.chain.from_iterable(by_split))
        if twice := [path for path, count in paths.items() if count > 1]:
            raise UserError(
                f"Data '{self._name}': '{twice[0]}' would be an image of two splits, by the names of its folders. "
                "Put splits in folders called train, val and test, with class folders in them."
            )
        loaded = set(paths)
        check_class_folders(loaded)
        if {file.parent.name for file in loaded} == set(self.class_names):  # else labels come from a file
            for files in by_split:
                check_one_folder_each(folder, files)
        return tuple(filter(None, [files_left_out(folder, loaded, self._ignored)]))

    def _row(self, split: str, row: int) -> str:
        """Where a row is, for errors."""
        return self._lines[split][row] if split in self._lines else f"Data '{self._name}', split '{split}', row {row}"


def _from_hub(name: str) -> Any:
    """The splits of a data set on the hub. Raises UserError where there is none."""
    import datasets

    loaded = explained(lambda: datasets.load_dataset(name), None, name)
    if "/" not in name and of_a_folder(loaded):
        raise NoSuchData(
            f"Data '{name}' is neither a folder here nor found on the hub. What is kept under that name in "
            f"'{download_folder()}' is a copy of a folder elsewhere. Give the path of the folder.{similar_data(name)}"
        )
    return loaded


def _all_of(broken: Sequence[str], untried: int) -> str:
    """The first of them in a line each."""
    more = [f"... and {len(broken) - SHOWN:,} more."] if len(broken) > SHOWN else []
    head = [f"{len(broken):,} images cannot be read:"] if len(broken) > 1 else []
    rest = [f"{untried:,} further images of the data were not tried."] if untried else []
    return "\n".join([*head, *broken[:SHOWN], *more, *rest])


def _decode(cell: dict[str, Any] | None, place: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An undecoded cell of the image column -> (H, W, 3) uint8. Raises UserError that names the place and the file."""
    if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
        raise UserError(f"{place}: there is no image. Remove the row, or give it one.")
    path = cell.get("path")
    try:
        return decode(io.BytesIO(cell["bytes"]) if cell.get("bytes") is not None else str(path))
    except ValueError as error:
        named = f" ({printable(path)})" if path else ""
        raise UserError(f"{place}{named}: the image cannot be decoded: {error}. Replace it or remove it.") from error
