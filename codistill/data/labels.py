"""A column of labels of all splits -> the names of the classes, and a label for each image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codistill.data.classes import NO_LABEL, in_order, plain_value, unlabelled, values_of_classes
from codistill.data.rows import Rows
from codistill.data.sources.base import leave_out
from codistill.errors import UserError

Cells = Mapping[str, Sequence[Any]]  # of a column, by split


def read_labels(
    name: str,
    cells: Cells,
    table: Sequence[str] | None,
    place: Callable[[str, int], str],
    *,
    folders: bool = False,
    earlier: bool = False,
) -> tuple[tuple[str, ...], dict[str, Rows]]:
    """Names of K classes, and the labels of each split. Raises UserError for what is no label.

    name: of the data. place: a split's row, in words. earlier: as ``Source.as_earlier``.

    table: where labels are whole numbers, the class names that they stand for, in an order that its author gave them;
    folders: unless they are those of folders.
    """
    plain = {
        split: [_plain(own, split, row, place) for row, own in enumerate(column)] for split, column in cells.items()
    }
    _check_labelled(name, plain)
    if earlier:
        plain = {split: list(column) for split, column in cells.items()}
    if table is not None:
        names = in_order(table) if folders and not earlier else list(table)
        index = {value: names.index(class_name) for value, class_name in enumerate(table)}
    else:
        occurring = (value for column in plain.values() for value in column)
        values = values_of_classes(name, occurring, by_letters=earlier)
        names, index = [str(value) for value in values], {value: label for label, value in enumerate(values)}
    return tuple(names), {split: _numbered(split, column, index, place) for split, column in plain.items()}


def _plain(cell: Any, split: str, row: int, place: Callable[[str, int], str]) -> Any:
    try:
        return plain_value(cell)
    except UnicodeDecodeError:
        raise UserError(f"{place(split, row)}: the label {cell!r} is not text in UTF-8. Write it so.") from None


def _check_labelled(name: str, cells: Cells) -> None:
    """Raises UserError for a split no image of which has a label."""
    for split, column in cells.items():
        if column and (how := unlabelled(column)):
            what_to_do = (
                "Set data.label to another column, or give them labels."
                if split == "train"
                else f"Benchmarks ship test splits this way, to keep their labels secret. {leave_out(split)}"
            )
            raise UserError(
                f"Split '{split}' of data '{name}' has no labels: all {len(column):,} are {how}. {what_to_do}"
            )


def _numbered(split: str, column: Sequence[Any], index: Mapping[Any, int], place: Callable[[str, int], str]) -> Rows:
    for row, cell in enumerate(column):
        if cell not in index:
            if cell is None:
                raise UserError(f"{place(split, row)}: there is no label. Give the image one, or leave it out.")
            means = ", and means that the image has no label" if str(cell) == NO_LABEL else ""
            raise UserError(
                f"{place(split, row)}: the label {cell!r} is none of the {len(index)} classes{means}. Correct it, or "
                "remove the row."
            )
    return np.array([index[cell] for cell in column], dtype=np.int64)
