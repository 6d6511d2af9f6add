r"""Text that others wrote, such as names of classes and files, made fit for a line: control characters as escapes.

A line break in a name would make two lines of one, and an escape sequence would command the terminal: set its title,
erase what stands there. JSON and files of data hold names as they are.
"""

import re
from collections.abc import Iterable

# C0, DEL and C1; separators of lines and paragraphs; marks that turn the direction of the text after them; halves of
# surrogate pairs, by which Python keeps bytes that are no text.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BYTES = range(0xDC80, 0xDD00)  # how Python keeps the bytes 80 to ff
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""A name as one line of it shows it.

    >>> print(printable("ash\n\x1b[31moak"))
    ash\n\x1b[31moak
    """
    return _CONTROLS.sub(lambda found: _escaped(found[0]), text)


def printable_list(names: Iterable[str]) -> str:
    """Names in one line, with commas between them."""
    return ", ".join(map(printable, names))


def printable_lines(text: str) -> str:
    """The same of a text that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def _escaped(character: str) -> str:
    number = ord(character)
    if number in _BYTES:
        number -= 0xDC00
    return _SHORT.get(character) or (rf"\x{number:02x}" if number < 0x100 else rf"\u{number:04x}")
