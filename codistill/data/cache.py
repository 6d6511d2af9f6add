"""Decoded images on disk: the same data is decoded once, and every later run maps the file and starts at once.

The mapping is read page by page as batches need it, so the data may be larger than memory, and runs on one machine
share what they read. Images are written one at a time to a file beside its place, which is renamed when it is whole:
nobody ever reads half an entry. Of two processes that want the same entry, one makes it and the other waits.
"""

import errno
import mmap
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from codistill.data.cache_entry import Contents, Entry, Shape, cache_folder, remove_leftovers
from codistill.errors import UserError

_ELSEWHERE = "set CODISTILL_CACHE to a folder on another disk, or data.cache=false to hold the images in memory"


def cached(contents: Contents, images: Iterable[Tensor], count: int) -> Tensor:
    """(count, H, W, 3) uint8 from the cache; only if there is no such entry yet, it is made of ``images``.

    images: ``count`` of (H, W, 3) uint8, all of one size. What is written to the result stays in this process.
    """
    folder = cache_folder()
    entry = Entry(folder, contents.key)
    with _locked(folder, entry.lock):
        found = entry.read()
        if found is not None and found[1] == contents:
            shape = found[0]
        else:
            for stale in (entry.sidecar, entry.pixels, entry.part):
                stale.unlink(missing_ok=True)
            remove_leftovers(folder)
            shape = _write(entry, contents, images, count)
        os.utime(entry.sidecar)
        return _map(entry.pixels).view(shape)


@contextmanager
def _locked(folder: Path, path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise UserError(f"The cache folder '{folder}' cannot be written ({error.strerror}): {_ELSEWHERE}.") from error
    try:
        yield
    finally:
        lock.release()


def _write(entry: Entry, contents: Contents, images: Iterable[Tensor], count: int) -> Shape:
    shape: Shape | None = None
    try:
        with entry.part.open("wb") as file:
            for image in images:
                if shape is None:
                    height, width, channels = image.shape
                    shape = (count, height, width, channels)
                    _check_space(entry.part.parent, contents, shape)
                file.write(image.contiguous().numpy().data)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave a whole name with half a content
        assert shape is not None, "an entry holds at least one image"
        entry.part.replace(entry.pixels)
        entry.describe(shape, contents)
    except BaseException as error:
        entry.remove()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # a quota, or another process
            raise UserError(f"The disk of '{entry.part.parent}' is full: free some space, {_ELSEWHERE}.") from error
        raise
    return shape


def _check_space(folder: Path, contents: Contents, shape: Shape) -> None:
    needed, free = torch.Size(shape).numel(), shutil.disk_usage(folder).free
    if needed > free:
        count, height, width, _ = shape
        raise UserError(
            f"The decoded images of '{contents.data}' ({contents.split}: {count:,} of {width}x{height} pixels) need "
            f"{needed / 1e9:,.2f} GB, but '{folder}' has {free / 1e9:,.2f} GB free. Remove older entries (codistill "
            f"cache --clear), {_ELSEWHERE}."
        )


def _map(path: Path) -> Tensor:
    """The bytes of a file, read when they are touched. Private: a write to them never reaches the file."""
    with path.open("rb") as file:
        if sys.platform == "linux":
            # Without NORESERVE, Linux refuses a private mapping larger than memory and swap.
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)  # named since Python 3.13
            mapped = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        else:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(mapped, dtype=torch.uint8)
