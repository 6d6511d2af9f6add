"""What the C library does with memory that a step frees on a CPU.

Where that library is not glibc, nothing in here does anything.
"""

import ctypes
import os
import platform
from pathlib import Path

_GROWTH = 1.25


def keep_freed_memory() -> None:
    """Keep it for the next step: to get it back page by page costs a tenth of a step.

    M_MMAP_MAX = 0, M_TRIM_THRESHOLD = 2 GiB, M_TOP_PAD = 256 MiB, and M_ARENA_MAX = 1, so that what one thread frees
    another can use.
    """
    if _is_glibc():
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28), (-8, 1)):
            ctypes.CDLL(None).mallopt(parameter, value)


def give_back_freed_memory() -> None:
    """Give large pieces back to the system as soon as they are freed.

    For sharded parameters: most weights are in memory only while their block computes, and to keep their memory would
    undo that. M_MMAP_THRESHOLD = 128 KiB is glibc's first value; to set it keeps glibc from raising it.
    """
    if _is_glibc():
        ctypes.CDLL(None).mallopt(-3, 2**17)


class Surplus:
    """Kept memory that steps no longer use. Pieces that live longer, a few in each epoch, come to lie between what is
    free, so that steps take new memory beside the old: over hundreds of epochs that is half as much again, and more.
    """

    def __init__(self) -> None:
        self._most: float | None = None  # bytes; known once an epoch is over

    def after_epoch(self) -> None:
        """Give back all that is free once the process holds a quarter more than after its first epoch.

        The next epoch takes what it needs, and is measured anew: growth that is in use is not given back in vain.
        """
        if not _is_glibc():
            return
        held = _resident_bytes()
        if self._most is None:
            self._most = _GROWTH * held
        elif held > self._most:
            ctypes.CDLL(None).malloc_trim(0)
            self._most = None


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
