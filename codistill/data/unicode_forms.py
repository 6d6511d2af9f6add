"""Files whose names are written in another Unicode form than on the disk: é as one character, or as e and an accent.

Both look the same. Archives of macOS hold the second, most programs write the first, and to Linux they are two names.
"""

import os
import unicodedata
from collections.abc import Iterator


def composed(name: str) -> str:
    """The form in which names are compared."""
    return unicodedata.normalize("NFC", name)


def all_forms(name: str) -> list[str]:
    """A name as it is, and in those of the two usual forms that are others."""
    return list(dict.fromkeys([name, composed(name), unicodedata.normalize("NFD", name)]))


class Forms:
    """Finds files by their names in any form. A folder is listed once, so it should not change meanwhile."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, list[str]]] = {}  # of a folder: its entries by their composed names

    def find(self, path: str) -> list[str]:
        """The paths that are this one but for their form, sorted; one alone where it is there as it is written."""
        if path.isascii() or os.path.exists(path):
            return [path] if os.path.exists(path) else []
        drive, rest = os.path.splitdrive(path)
        root = drive + (os.sep if rest.startswith(os.sep) else "")
        found = [root]
        for part in filter(None, rest.split(os.sep)):
            found = [one for above in found for one in self._entries(above, part)]
        return sorted(found)

    def _entries(self, folder: str, name: str) -> Iterator[str]:
        if name.isascii():
            if os.path.exists(path := os.path.join(folder, name)):
                yield path
            return
        if folder not in self._listed:
            entries: dict[str, list[str]] = {}
            try:
                for entry in os.listdir(folder or os.curdir):
                    entries.setdefault(composed(entry), []).append(entry)
            except OSError:  # a file, or a folder that may not be read
                pass
            self._listed[folder] = entries
        yield from (os.path.join(folder, entry) for entry in self._listed[folder].get(composed(name), []))


def several_forms(paths: list[str]) -> str:
    """What to say of several files that one name may mean, as part of a sentence."""
    names = ", ".join(ascii(os.path.basename(path)) for path in paths)
    return f"{len(paths)} files have this name in other Unicode forms ({names}): write it as one of them"
