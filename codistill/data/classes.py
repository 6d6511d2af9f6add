"""Names of classes, from what a label column or folders hold: numbers as one writes them, in the order of numbers.

Files hold a class 3 as 3, 3.0 or "3", and -1, or nothing, where an image has no label.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from typing import Any

from codistill.errors import UserError
from codistill.errors.printable import printable

NO_LABEL = "-1"  # as benchmarks write it whose test labels are kept secret
SIGNS = {NO_LABEL, "1"}  # the two classes of data that tell yes from no by a sign: here -1 is a class
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def plain_value(value: Any) -> Any:
    """A label as it names its class: 3.0 as 3, bytes as the text that they are."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bytes):
        return value.decode()
    return value


def values_of_classes(name: str, cells: Iterable[Any], *, by_letters: bool = False) -> list[Any]:
    """The classes that occur among the values of the data ``name``, each once, in their order.

    by_letters: also of words that are numbers.

    Raises UserError for fractions, and for values of several types.
    """
    values = {value for value in cells if not _missing(value)}
    if fractions := [value for value in values if isinstance(value, float) and not value.is_integer()]:
        raise UserError(
            f"Data '{name}': labels such as {fractions[0]} are no classes. Set data.label to another column."
        )
    try:
        words = not by_letters and all(isinstance(value, str) for value in values)
        return in_order(values) if words else sorted(values)
    except TypeError:
        raise UserError(f"Data '{name}' mixes labels of different types. Set data.label to another column.") from None


def in_order(names: Iterable[str]) -> list[str]:
    """Words in the order of their letters; those that are numbers before them, in the order of numbers: 1, 2, 10, oak.

    >>> in_order(["oak", "10", "2", "ash", "1"])
    ['1', '2', '10', 'ash', 'oak']
    """
    words = sorted(names)
    numbers = [word for word in words if _NUMBER.fullmatch(word)]
    if len(numbers) < 2:  # nothing to count by
        return words
    return sorted(numbers, key=Fraction) + [word for word in words if not _NUMBER.fullmatch(word)]


def unlabelled(cells: Iterable[Any]) -> str:
    """How plain values say that no image at all has a label, such as "-1"; "" where some image has one."""
    kinds: set[str] = set()
    for value in cells:
        kinds.add("missing" if _missing(value) else str(value))
        if not kinds <= {"missing", NO_LABEL}:
            return ""
    return " or ".join(sorted(kinds))


def warning_of_unlabelled(names: Collection[str], counts: Iterable[int]) -> str | None:
    """About a class that is hardly meant as one: the images of -1. ``counts``: of images, by class."""
    if NO_LABEL not in names or set(names) == SIGNS:
        return None
    count = dict(zip(names, counts, strict=True))[NO_LABEL]
    return (
        f"'{NO_LABEL}' is a class of {count:,} image{'s' * (count != 1)}. In many tables it means that an image has no "
        "label: if so here, remove these rows."
    )


def too_few_classes(names: Sequence[str]) -> UserError:
    """names: of the classes that train has images of, one or none."""
    which = "".join(f" ('{printable(name)}')" for name in names)
    return UserError(
        f"Classifying needs images of at least two classes; train has images of {len(names)}{which}. Add images of "
        "another class, labelled so or in a class folder of its own."
    )


def _missing(value: Any) -> bool:
    return value is None or value != value  # not a number
