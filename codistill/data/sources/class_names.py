"""Whether files that make one table number the same classes.

``datasets`` takes the names of the first file for all and the numbers as they are: of files that were written one by
one, ``["cat", "dog"]`` and ``["dog", "cat"]``, each cat of the second would be a dog, without a word.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codistill.errors import UserError

SAME = "Write all of them with the same class names, in one order."


def check_names_of_files(files: Iterable[Path]) -> None:
    """Raises UserError for a Parquet or Arrow file whose class names are not those of the first that has the column."""
    first: dict[str, tuple[Path, list[str]]] = {}
    for file in sorted(files):
        for column, names in _names_in(file).items():
            other_file, other = first.setdefault(column, (file, names))
            if names != other:
                raise UserError(
                    f"The class names of column '{column}' in '{file}' are not those in '{other_file}'"
                    f"{first_other_name(names, other)}. {SAME}"
                )


def first_other_name(names: Iterable[str], expected: Iterable[str]) -> str:
    """`` ('Cat', not 'cat')``: the first name that differs; nothing if one list only goes on where the other ends."""
    pairs = zip(names, expected, strict=False)
    return next((f" ({one!r}, not {other!r})" for one, other in pairs if one != other), "")


def _names_in(file: Path) -> dict[str, list[str]]:
    """The class names of each column that has some, from what ``datasets`` writes into a file's schema."""
    import datasets

    schema = _schema(file)
    if schema is None or b"huggingface" not in (schema.metadata or {}):
        return {}
    kinds = datasets.Features.from_arrow_schema(schema)
    return {column: list(kind.names) for column, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)}


def _schema(file: Path) -> Any:
    """None for a file of another kind, and for one that is damaged, which is told when it is read."""
    import pyarrow
    import pyarrow.parquet

    try:
        if file.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_schema(file)
        if file.suffix.lower() == ".arrow":
            with file.open("rb") as content, pyarrow.ipc.open_stream(content) as stream:
                return stream.schema
    except (pyarrow.ArrowException, OSError):
        pass
    return None
