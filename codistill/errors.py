"""The one error a user is meant to read: it names the culprit, the choices, and the nearest of them.

Raised before any training starts. The command line prints it without a traceback and exits with code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """What was asked for cannot be done as asked; the message says what would be accepted."""


def unknown(kind: str, given: str, choices: Iterable[str]) -> UserError:
    """An error for a name that is not among ``choices``, with the nearest one suggested."""
    choices = list(choices)
    near = get_close_matches(given, choices, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UserError(f"Unknown {kind} '{given}'.{hint} Choices: {', '.join(choices) or 'none'}.")
