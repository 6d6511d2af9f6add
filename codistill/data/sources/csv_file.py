"""A CSV file that lists images: a column of their paths, relative to the file, and a column of labels.

Read as text, so that a class named 007, NA or None keeps its name; labels are numbers, in the order of numbers, only
if writing them again gives the same words. The column of images is found by the endings of what it holds.
"""

import csv
import itertools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from codistill.data.sources.folder_splits import split_called
from codistill.data.transforms.decode import ENDINGS
from codistill.data.unicode_forms import Forms, several_forms
from codistill.errors import UserError
from codistill.errors.printable import printable, printable_list

HOW = "A CSV file needs a first line that names its columns, a column of image files and a column of labels."

CALLED_SPLITS = (  # in small letters
    *("split", "subset", "usage", "partition", "fold"),
    *("is_train", "is_valid", "is_validation", "is_test"),
)
SHOWN = 5  # words


class Table(NamedTuple):
    """Columns of equal length by name, and which of them holds the images, as absolute paths."""

    columns: dict[str, list[str]]
    image: str
    lines: dict[str, int]  # of each image, in their order, by the file that it is behind all links


def read_csv(path: Path, label: str | None = None) -> Table:
    """The table of a file. Raises UserError that names the line of what is wrong.

    ``.tsv`` has tabs for commas; ``.csv`` has tabs or semicolons where its first line has them and no comma, or what a
    line such as ``sep=;`` before that names, as spreadsheets write it. A nameless first column of whole numbers is the
    index of a table of pandas, and left out. Paths may be written with backslashes.

    label: the column of labels, where the user named it.
    """
    lines = _lines(path)
    if len(lines) < 2:
        raise UserError(f"'{path}' lists no images. {HOW}")
    (_, names), rows = lines[0], lines[1:]
    if any(map(_names_an_image, names)):
        raise UserError(f"'{path}' begins with an image. {HOW}")
    for number, cells in rows:
        if len(cells) != len(names):
            raise UserError(f"'{path}', line {number}: {len(cells)} cells for {len(names)} columns. Correct the line.")
    if names[0] == "" and all(cells[0].isdecimal() for _, cells in rows):
        names, rows = names[1:], [(number, cells[1:]) for number, cells in rows]
    if len(set(names)) < len(names) or "" in names:
        raise UserError(f"'{path}' should name each column once: its first line is {printable_list(names)}. {HOW}")
    columns = {name: [cells[place] for _, cells in rows] for place, name in enumerate(names)}
    images = [name for name, cells in columns.items() if _names_an_image(cells[0])]
    if len(images) != 1:
        raise UserError(
            f"'{path}' should have one column of image files, has {printable_list(images) or 'none'}. Its columns: "
            f"{printable_list(names)}. Image files end with {', '.join(ENDINGS)}."
        )
    (image,) = images
    forms = Forms()
    paths = [_file(path.parent, cell, forms) for cell in columns[image]]
    for (number, _), cell, file in zip(rows, columns[image], paths, strict=True):
        if not os.path.isfile(file):
            others = forms.find(file)
            why = several_forms(others) if others else "paths are relative to the CSV file"
            raise UserError(f"'{path}', line {number}: there is no file '{printable(cell)}' ({why}).")
    first = _lines_of_images(path, [number for number, _ in rows], columns[image], paths)
    _check_splits(path, {name: cells for name, cells in columns.items() if name != label})
    return Table({**columns, image: paths}, image, first)


def check_apart(paths: Mapping[str, Path], tables: Mapping[str, Table]) -> None:
    """Raises UserError for an image that the files of two splits list: it would be trained on and tested with."""
    for one, other in itertools.combinations(tables, 2):
        for file, number in tables[other].lines.items():
            if file in tables[one].lines:
                raise UserError(
                    f"'{paths[other]}', line {number}: '{printable(file)}' is in line {tables[one].lines[file]} of "
                    f"'{paths[one]}' already. Leave one out."
                )


def _lines_of_images(path: Path, numbers: list[int], cells: list[str], files: list[str]) -> dict[str, int]:
    """Raises UserError for an image that is listed twice: it could be trained on and tested with."""
    first: dict[str, int] = {}
    for number, cell, file in zip(numbers, cells, map(os.path.realpath, files), strict=True):
        if file in first:
            raise UserError(
                f"'{path}', line {number}: '{printable(cell)}' is in line {first[file]} already. Leave one out."
            )
        first[file] = number
    return first


def _check_splits(path: Path, columns: dict[str, list[str]]) -> None:
    """Raises UserError for a column that tells splits, for nobody reads it: test images would be trained on.

    One is known by its words, or by its own name if it has several.
    """
    for name, cells in columns.items():
        words = {cell.lower() for cell in cells}
        splits = {split_called(word) for word in words}
        told = "train" in splits and len(splits) > 1 and "" not in splits
        if told or (name.lower() in CALLED_SPLITS and len(words) > 1):
            some = [printable(word) or "nothing" for word in sorted(words)[:SHOWN]] + ["..."] * (len(words) > SHOWN)
            otherwise = "" if told else " If it tells something else, call it otherwise, or name it as data.label."
            raise UserError(
                f"Column '{printable(name)}' of '{path}' tells splits ({', '.join(some)}), but a CSV file is all one. "
                f"Give a folder with a file for each: train.csv, test.csv.{otherwise}"
            )


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty; of one that goes on in others, for line breaks in quotes, the
    first's."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = file.readlines()
            before = sum(1 for _ in itertools.takewhile(lambda line: not line.strip(), lines))
            first = lines[before] if before < len(lines) else ""
            if named := re.fullmatch(r"sep=([,;\t])", first.strip("\r\n"), re.IGNORECASE):
                before, separator = before + 1, named[1]
            else:
                separator = _separator(path, first)
            reader = csv.reader(lines[before:], delimiter=separator, strict=True)
            found, number = [], before + 1
            for cells in reader:
                if cells:
                    found.append((number, [cell.strip() for cell in cells]))
                number = before + reader.line_num + 1
            return found
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not text in UTF-8. Save it as UTF-8.") from error
    except csv.Error as error:
        raise UserError(f"'{path}' is not valid CSV: {error}.") from error
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}.") from error


def _separator(path: Path, first_line: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    bare = re.sub(r'"[^"]*("|$)', "", first_line)  # what is quoted, maybe to a later line, separates nothing
    return next((mark for mark in ",;\t" if mark in bare), ",")


def _file(folder: Path, cell: str, forms: Forms) -> str:
    """The absolute path of a file, where / stands for backslashes unless there is a file with them in its name.

    It is that on the disk, where one alone has this name in another Unicode form.
    """
    file = str((folder / cell).absolute())
    if "\\" in cell and not os.path.isfile(file):
        file = str((folder / cell.replace("\\", "/")).absolute())
    if os.path.isfile(file):
        return file
    others = forms.find(file)
    return others[0] if len(others) == 1 else file


def _names_an_image(cell: str) -> bool:
    return cell.lower().endswith(ENDINGS)


def kind_of(cells: Iterable[str]) -> type[int] | type[float] | type[str]:
    """The kind of number that all cells are; ``str`` where one is none. Empty cells do not count.

    Whole numbers beside 1.0 are ``float``: so does pandas write a column of them once a cell of it was empty.
    """
    given = {cell for cell in cells if cell}
    whole = {cell for cell in given if _written_again(cell, int)}
    if given and all(_written_again(cell, float) for cell in given - whole):
        return int if whole == given else float
    return str


def _written_again(cell: str, kind: type[int] | type[float]) -> bool:
    """Whether a cell is a number of this kind as Python writes it."""
    try:
        return str(kind(cell)) == cell
    except ValueError:  # a word
        return False
