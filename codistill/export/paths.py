"""Which image files are meant: files, folders, patterns, and ``-`` for a list on standard input. No torch in here."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from codistill.data.transforms.decode import ENDINGS
from codistill.data.unicode_forms import Forms, all_forms, several_forms


def image_paths(arguments: Iterable[str], standard_input: TextIO, missing: Callable[[str, str], None]) -> Iterator[str]:
    """The paths one by one, in order; a folder's images sorted, with those of its folders.

    ``missing`` is told what names no image, and why. Lines of standard input are taken as they come.
    """
    forms = Forms()
    for argument in arguments:
        if argument == "-":
            for line in standard_input:
                if path := line.rstrip("\r\n"):
                    yield from _expanded(path, forms, missing)
        else:
            yield from _expanded(argument, forms, missing)


def _expanded(name: str, forms: Forms, missing: Callable[[str, str], None]) -> Iterator[str]:
    others = forms.find(name)
    if len(others) == 1:
        (name,) = others
    if os.path.isdir(name):
        found = list(_images_below(name))
        if not found:
            missing(name, "the folder holds no image")
        yield from found
    elif os.path.exists(name):  # before patterns: a file may have brackets in its name
        yield name
    elif glob.has_magic(name):
        all_matches = {path for form in all_forms(name) for path in glob.glob(form, recursive=True)}
        matches = sorted(path for path in all_matches if os.path.isfile(path))
        if not matches:
            missing(name, "no file matches")
        yield from matches
    else:
        missing(name, f"there is no such file, and {several_forms(others)}" if others else "there is no such file")


def _images_below(folder: str) -> Iterator[str]:
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(path, name)
