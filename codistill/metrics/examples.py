"""Which images are worth showing: those on which students and teacher part, and some that lie evenly spread."""

from collections.abc import Mapping, Sequence

SHOWN = 12
PARTING = 8  # of them


def choose_examples(parting: Mapping[str, Sequence[int]], images: int) -> dict[int, str]:
    """Image -> why: ``a/b`` (a is right, b wrong) or ``spread``. parting: by such keys, most telling images first."""
    chosen: dict[int, str] = {}
    for place in range(max(map(len, parting.values()), default=0)):  # the first of each, then the second of each
        for why, rows in parting.items():
            if place < len(rows) and len(chosen) < min(PARTING, images):
                chosen.setdefault(rows[place], why)
    for row in range(0, images, max(1, images // SHOWN)):
        if len(chosen) < SHOWN:
            chosen.setdefault(row, "spread")
    return chosen
