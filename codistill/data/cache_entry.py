"""The files of the cache of decoded images: where they lie, which of them are whole, and removing them.

An entry is ``KEY.pixels``, raw uint8 (n, H, W, 3), and ``KEY.json``, which says what it holds and whose time of change
is the time of last use. ``KEY.part`` is what is being written. Whoever writes or opens an entry holds ``KEY.lock``, so
a part whose lock is free was left behind by a process that was killed.
"""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import PIL
from filelock import FileLock, Timeout

FORMAT = 3  # raise it when the same files come to be decoded to other pixels
_KEY = re.compile("[0-9a-f]{32}")

Shape = tuple[int, int, int, int]  # (n, H, W, 3)


class Cleared(NamedTuple):
    """What ``clear`` did: entries removed and their bytes, and entries kept because they are being made or opened."""

    removed: int
    bytes: int
    busy: int


@dataclass(frozen=True)
class Contents:
    """Everything that an entry's pixels depend on."""

    data: str  # absolute path of a folder, or name on the hub
    state: str  # changes when the data does
    split: str
    column: str
    rows: str  # hash of the row numbers, in order
    image_size: int | None
    resize: str = ""  # how it was brought to that size
    decoder: str = f"pillow {PIL.__version__}"  # the same JPEG may come out a grey level lighter from another version
    format: int = FORMAT

    @property
    def key(self) -> str:
        return digest(json.dumps(asdict(self)).encode())


class Entry:
    """One entry of a cache folder, by its key, whether it is there or not."""

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self.pixels, self.sidecar = folder / f"{key}.pixels", folder / f"{key}.json"
        self.part, self.lock = folder / f"{key}.part", folder / f"{key}.lock"

    def read(self) -> tuple[Shape, Contents] | None:
        """What it holds; None where a file is missing, truncated, or none of ours."""
        try:
            told = json.loads(self.sidecar.read_text(encoding="utf-8"))
            n, height, width, channels = told["shape"]
            contents = Contents(**told["contents"])
            whole = self.pixels.stat().st_size == math.prod((n, height, width, channels))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return ((n, height, width, channels), contents) if whole else None

    def describe(self, shape: Shape, contents: Contents) -> None:
        """Write the side-car, last of all: from now on the entry is whole."""
        self.part.write_text(json.dumps({"shape": shape, "contents": asdict(contents)}, indent=1), encoding="utf-8")
        self.part.replace(self.sidecar)

    def size_and_last_use(self) -> tuple[int, float]:
        """Bytes on disk, and seconds since the epoch."""
        size, last_use = 0, 0.0
        for path in (self.part, self.pixels, self.sidecar):
            with suppress(FileNotFoundError):
                status = path.stat()
                size, last_use = size + status.st_size, status.st_mtime  # the side-car's, where there is one
        return size, last_use

    def remove(self) -> None:
        """The lock goes last. Those who have mapped the pixels keep them."""
        for path in (self.sidecar, self.part, self.pixels, self.lock):
            path.unlink(missing_ok=True)

    @contextmanager
    def if_free(self) -> Iterator[bool]:
        """Whether nobody else writes or opens it; nobody can inside the block."""
        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def cache_folder() -> Path:
    """``$CODISTILL_CACHE``, else ``$XDG_CACHE_HOME/codistill``, else ``~/.cache/codistill``."""
    own, common = os.environ.get("CODISTILL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own or Path(common or "~/.cache", "codistill")).expanduser()


def entries(folder: Path, unused_for: float | None = None) -> list[Entry]:
    """Every entry, whole or not, that nobody opened for so many seconds. Files of other names are none of ours."""
    ours = [path.stem for path in folder.glob("*.*") if path.suffix in (".pixels", ".json", ".part")]
    found = [Entry(folder, key) for key in sorted(set(ours)) if _KEY.fullmatch(key)]
    if unused_for is None:
        return found
    return [entry for entry in found if time.time() - entry.size_and_last_use()[1] >= unused_for]


def clear(folder: Path, unused_for: float | None = None) -> Cleared:
    """Remove what nobody has opened for so many seconds."""
    removed = size = busy = 0
    for entry in entries(folder, unused_for):
        with entry.if_free() as free:
            if free:
                size += entry.size_and_last_use()[0]
                entry.remove()
            removed, busy = removed + free, busy + (not free)
    return Cleared(removed, size, busy)


def remove_leftovers(folder: Path) -> None:
    """What killed processes left: parts, and pixels that no side-car describes."""
    for entry in entries(folder):
        if entry.part.exists() or not entry.sidecar.exists():
            with entry.if_free() as free:
                if free and entry.sidecar.exists():
                    entry.part.unlink(missing_ok=True)
                elif free:
                    entry.remove()


def digest(content: bytes) -> str:
    """128 bits that name a content."""
    return hashlib.sha256(content).hexdigest()[:32]


def state_of_files(folder: Path, files: Iterable[Path]) -> str:
    """A hash of the path relative to a folder, size and time of change of every file; none of them is read."""
    found = []
    for path in files:
        with suppress(FileNotFoundError):  # a link to nowhere
            status = os.stat(path)
            found.append(f"{os.path.relpath(path, folder)}\0{status.st_size}\0{status.st_mtime_ns}")
    return digest("\n".join(sorted(found)).encode(errors="surrogateescape"))  # names need not be UTF-8
