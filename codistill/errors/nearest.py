"""Which of the names that there are is meant by one that there is not: what stands behind every "Did you mean".

Names may have parts (``data.image_size``, ``a/ce``), and parts may have words (``image_size``). The last part counts
first: ``lr`` is ``optimizer.lr``, and ``data.size`` is ``data.image_size`` rather than ``data.resize``, which has more
letters in common. Of paths, the first part that does not exist is replaced by a similar one that does.
"""

import os
import re
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path

CUTOFF = 0.6  # of the similarity of letters, from 0 to 1; as in difflib
PATHS_CUTOFF = 0.7
SEPARATORS = "./:"
MOST_FILES = 10_000  # of a folder are looked at

# Scores of what is more than similar letters, and what it adds that the parts before the last one are the same.
_SAME, _SAME_WORDS, _SAME_PLACE = 2.0, 0.9, 0.1


def nearest(
    given: str, choices: Iterable[str], *, most: int = 2, cutoff: float = CUTOFF, separators: str = SEPARATORS
) -> list[str]:
    """The best matches, ``most`` of those that match equally well, in the order of ``choices``; none may match.

    >>> nearest("lr", ["batch_size", "optimizer.lr", "optimizer.lr_factors"])
    ['optimizer.lr']
    >>> nearest("data.size", ["data.resize", "data.image_size", "batch_size"])
    ['data.image_size']
    """
    scores = {choice: _score(given, choice, cutoff, separators) for choice in choices}
    best = max(scores.values(), default=0.0)
    return [choice for choice, score in scores.items() if score and score > best - 1e-9][:most]


def did_you_mean(names: Iterable[str]) -> str:
    """`` Did you mean 'a' or 'b'?``, to be put behind a sentence; nothing for no names."""
    quoted = " or ".join(f"'{name}'" for name in names)
    return f" Did you mean {quoted}?" if quoted else ""


def similar_path(given: str | Path, wanted: Callable[[str], bool] = os.path.exists) -> list[str]:
    """A path that exists, is ``wanted``, and differs from the given one in few letters; in a list, which may be empty.

    Where a folder has nothing similar, the folders in it are searched for something of the same name.
    """
    parts = Path(os.path.expanduser(given)).parts
    if os.path.exists(os.path.join(*parts or ["."])):
        return []
    place = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        path = os.path.join(place, part)
        if not os.path.lexists(path):
            here = [name for name in _names(place) if not last or wanted(os.path.join(place, name))]
            near = nearest(part, here, most=1, cutoff=PATHS_CUTOFF, separators="")
            near = near or [os.path.join(*deeper) for deeper in _one_level_deeper(place, part)][:1]
            if not near:
                return []
            path = os.path.join(place, near[0])
        place = path
    return [place] if wanted(place) else []


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return sorted(entry.name for entry in islice(entries, MOST_FILES) if not entry.name.startswith("."))
    except OSError:  # no folder, or none that may be read
        return []


def _one_level_deeper(folder: str, name: str) -> list[tuple[str, str]]:
    return [(inner, name) for inner in _names(folder) if os.path.lexists(os.path.join(folder, inner, name))]


def _score(given: str, choice: str, cutoff: float, separators: str) -> float:
    (*place, own), (*other_place, other) = (_parts(name, separators) for name in (given, choice))
    score = _SAME if _bare(own) == _bare(other) else 0.0
    if not score and (_words(own) <= _words(other) or _words(other) <= _words(own)):
        score = _SAME_WORDS
    score = max(score, _ratio(own, other), 0.0 if place else _ratio(given, choice))
    if score < cutoff:
        return 0.0
    alike = bool(place) and _ratio("".join(place), "".join(other_place)) >= CUTOFF
    return score + _SAME_PLACE * alike


def _parts(name: str, separators: str) -> list[str]:
    return re.split(f"[{re.escape(separators)}]", name) if separators else [name]


def _words(part: str) -> set[str]:
    return set(filter(None, re.split(r"[-_ .]", part.casefold()))) or {part}


def _bare(part: str) -> str:
    """Without what is between words: ``batchsize`` for ``batch_size``."""
    return re.sub(r"[-_ ]", "", part.casefold()) or part


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one.casefold(), other.casefold()).ratio()
