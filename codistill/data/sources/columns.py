"""Which column of a table holds the images, and which the labels: found by their types and names."""

from typing import Any

from codistill.data.transforms.decode import ENDINGS
from codistill.errors import UserError, unknown
from codistill.errors.printable import printable, printable_list

# Tried in this order; of nested columns (``json.label``) the last part is the name.
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "cls")


def image_column(name: str, rows: Any) -> str:
    """rows: a ``datasets.Dataset``, the first row of which says whether a column of words holds paths."""
    import datasets

    features = rows.features
    columns = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    words = [column for column, kind in features.items() if kind in map(datasets.Value, ("string", "large_string"))]
    if not columns and words and len(rows):
        for column, cell in rows.select_columns(words)[0].items():
            if cell is not None and cell.lower().endswith(ENDINGS):
                raise UserError(
                    f"Data '{name}' holds paths in column '{printable(column)}' and no images. A CSV file may list "
                    "paths: in pandas, table.to_csv('list.csv', index=False) writes it, to the folder from where the "
                    "paths lead."
                )
    if len(columns) != 1:
        own_way = "".join(f" {told}" for told in [_as_images(features)] if told and not columns)
        raise UserError(
            f"Data '{name}' should have one image column, has {printable_list(columns) or 'none'}. Its columns: "
            f"{printable_list(features)}.{own_way} Leave one column of images; a folder of images should hold nothing "
            "else."
        )
    return str(columns[0])


def _as_images(features: Any) -> str:
    """How columns of lists, which may well hold pixels or images, become what is read; nothing where there are none."""
    import datasets

    several = [column for column, kind in features.items() if isinstance(_item(kind), datasets.Image)]
    numbers = [column for column, kind in features.items() if _item(kind) is not None and column not in several]
    if several:
        (column, *_), each = several, "lists of images, and each row should have one"
        change = f"row['{column}'][0]"
    elif numbers:
        (column, *_), each = numbers, "lists, and an image is the bytes of a file (PNG, JPEG, ...) or datasets.Image"
        change = f"PIL.Image.fromarray(numpy.uint8(row['{column}']))"
    else:
        return ""
    pixels = "" if several else "If they are pixels of height x width x 3, "
    change = f"rows.map(lambda row: {{'picture': {change}}}, remove_columns='{column}')"
    make = f"{pixels}{'make' if pixels else 'Make'} images with datasets: {change}."
    return f"Column '{printable(column)}' holds {each}. {make}"


def _item(kind: Any) -> Any:
    """What lists hold in the end; None for what is no list."""
    import datasets

    if isinstance(kind, (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.Array5D)):
        return datasets.Value(kind.dtype)
    if isinstance(kind, list):
        kind = datasets.List(kind[0])
    if not isinstance(kind, (datasets.List, datasets.LargeList)):
        return None
    return _item(kind.feature) or kind.feature


def label_columns(features: Any) -> list[str]:
    """The columns that can hold labels: those of single values."""
    import datasets

    return [column for column, kind in features.items() if isinstance(kind, (datasets.ClassLabel, datasets.Value))]


def no_labels(name: str, beside: str | None = None) -> UserError:
    """beside: an image that lies beside folders of images, for which ``datasets`` gives none of them a label."""
    culprit = f": '{beside}' lies beside folders of images" if beside else ""
    return UserError(
        f"Data '{name}' has no labels{culprit}. Images should lie in two class folders or more, all at one depth, as "
        "in cat/1.png or train/cat/1.png; a Parquet file should have a label column, as should a CSV file; in a "
        "WebDataset shard there is a .cls or .json file for each image."
    )


def label_column(name: str, features: Any, wanted: str | None) -> str:
    import datasets

    possible = label_columns(features)
    if wanted is not None:
        if wanted not in possible:
            if wanted in features:
                raise _no_label(name, wanted, features[wanted], possible)
            raise unknown("label column (data.label)", wanted, possible)
        return wanted
    named = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    for name_of_labels in LABEL_COLUMNS:
        for column in named or possible:
            if column.rsplit(".", 1)[-1] == name_of_labels:
                return column
    for column, kind in features.items():
        if column.rsplit(".", 1)[-1] in LABEL_COLUMNS and not named:
            raise _no_label(name, column, kind, possible)
    for certain in (named, possible):
        if len(certain) == 1:
            return str(certain[0])
    if not possible:
        raise no_labels(name)
    raise UserError(
        f"Data '{name}': which column holds the labels? Set data.label to one of: {printable_list(possible)}."
    )


def _no_label(name: str, column: str, kind: Any, possible: list[str]) -> UserError:
    """For a column that is called like one of labels and holds something else."""
    lists = _item(kind) is not None
    what = "Give each image one class, as a number or a word"
    if lists:
        what += ": of lists of one, the first; of lists of 0 and a 1, the place of the 1; several classes of one image "
        what += "are not learned"
    others = f", or set data.label to one of: {printable_list(possible)}" if possible else ""
    return UserError(
        f"Data '{name}': column '{printable(column)}' cannot be the labels, for it holds "
        f"{'lists, ' if lists else ''}{kind}. {what}{others}."
    )
