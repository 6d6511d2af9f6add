"""What steps no longer use goes back to the system, once it is worth it."""

import platform
import subprocess
import sys

import pytest

# In a process of its own, for such settings of the C library stay. One piece in 64 lives on between freed ones.
EPOCHS = """
import torch
from codistill.training.allocator import Surplus, _resident_bytes, keep_freed_memory

keep_freed_memory()
surplus = Surplus()
surplus.after_epoch()
held = [_resident_bytes()]
pieces = [torch.ones(2**18) for _ in range(int({more} * held[0]) // 2**20)]
alive = pieces[::64]
del pieces
held.append(_resident_bytes())
surplus.after_epoch()
print(*held, _resident_bytes())
"""


def resident(more: float) -> tuple[int, int, int]:
    """After the first epoch; with ``more`` times as much freed memory besides; after the second epoch."""
    done = subprocess.run([sys.executable, "-c", EPOCHS.format(more=more)], capture_output=True, text=True, check=True)
    first, full, last = map(int, done.stdout.split())
    return first, full, last


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")


@glibc
def test_what_is_free_is_given_back_once_a_quarter_more_is_held_than_after_the_first_epoch() -> None:
    first, full, last = resident(more=0.6)
    assert full > 1.5 * first
    assert last < 1.1 * first


@glibc
def test_what_is_free_is_kept_for_the_next_step_before() -> None:
    first, full, last = resident(more=0.15)
    assert last == full > 1.1 * first
