"""The errors that a user is meant to read. The command line prints them without a traceback.

A ``UserError`` names the culprit, the choices, and the nearest of them; it is raised before any training starts, and
the exit code is 2. ``TrainingEnded`` is what can befall a run later, with exit code 1.
"""

from collections.abc import Iterable
from unicodedata import normalize

from codistill.errors.nearest import did_you_mean, nearest
from codistill.errors.printable import printable, printable_list


class UserError(Exception):
    """What was asked for cannot be done as asked; the message says what would be accepted."""


class TrainingEnded(Exception):
    """Training cannot go on. What was saved before is as it was."""

    headline = "Training stopped"
    advice = ""  # what to do, where it is the same whatever happened
    told_by_all = False  # of several processes, by more than the main one


def first_line(error: BaseException) -> str:
    """The first line of what an error says that has words in it; the error's kind if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def unknown(kind: str, given: str, choices: Iterable[str], near: Iterable[str] | None = None) -> UserError:
    """An error for a name that is not among ``choices``, with the nearest ones suggested.

    near: what to suggest instead, where more is known of it than its letters.
    """
    choices = list(choices)
    found = list(nearest(given, choices) if near is None else near)
    hint = printable(did_you_mean(found))
    if found and normalize("NFC", found[0]) == normalize("NFC", given):
        hint = f" It is there in another Unicode form, {found[0]!a}, not {given!a}: write it so."
    return UserError(f"Unknown {kind} '{printable(given)}'.{hint} Choices: {printable_list(choices) or 'none'}.")
