"""Which column of a table holds the images, and which the labels: found by their types and names."""

from typing import Any

from codistill.errors import UserError, unknown
from codistill.pixels.decode import ENDINGS

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
                    f"Data '{name}' holds paths in column '{column}' and no images. A CSV file may list paths: in "
                    "pandas, table.to_csv('list.csv', index=False) writes it, to the folder from where the paths lead."
                )
    if len(columns) != 1:
        raise UserError(
            f"Data '{name}' should have one image column, has {', '.join(columns) or 'none'}. Its columns: "
            f"{', '.join(features)}. Leave one column of images; a folder of images should hold nothing else."
        )
    return str(columns[0])


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
            raise unknown("label column (data.label)", wanted, possible)
        return wanted
    named = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    for name_of_labels in LABEL_COLUMNS:
        for column in named or possible:
            if column.rsplit(".", 1)[-1] == name_of_labels:
                return column
    for certain in (named, possible):
        if len(certain) == 1:
            return str(certain[0])
    if not possible:
        raise no_labels(name)
    raise UserError(f"Data '{name}': which column holds the labels? Set data.label to one of: {', '.join(possible)}.")


def sorted_values(name: str, raw: dict[str, list[Any]]) -> list[Any]:
    values = {value for cells in raw.values() for value in cells if value is not None and value == value}  # not NaN
    if fractions := [value for value in values if isinstance(value, float) and not value.is_integer()]:
        raise UserError(
            f"Data '{name}': labels such as {fractions[0]} are no classes. Set data.label to another column."
        )
    try:
        return sorted(values)
    except TypeError:
        raise UserError(f"Data '{name}' mixes labels of different types. Set data.label to another column.") from None
