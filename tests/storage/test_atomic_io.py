"""Files are whole or as they were before, and what the disk says against it becomes a message."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codistill.storage import atomic_io


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: the nearest thing to a full disk that needs no rights."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_written_whole_and_what_it_replaces_can_be_kept(tmp_path: Path) -> None:
    path, previous = tmp_path / "file", tmp_path / "previous"
    for data in (b"one", b"two", b"three"):
        atomic_io.write_file(path, data, previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"three", b"two")
    assert set(tmp_path.iterdir()) == {path, previous}


def test_a_file_that_does_not_fit_leaves_the_old_one_and_no_temporary_file(tmp_path: Path) -> None:
    path, previous = tmp_path / "file", tmp_path / "previous"
    atomic_io.write_file(path, b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large"):
        atomic_io.write_file(path, bytes(5000), previous)
    assert path.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == {path}


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_an_error_at_any_step_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    path = tmp_path / "file"
    atomic_io.write_file(path, b"old")

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, operation, fails)
    with pytest.raises(OSError, match="No space left"):
        atomic_io.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == {path}


def test_a_disk_that_does_not_give_back_what_it_took_is_found_before_the_old_file_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fsync = tmp_path / "file", os.fsync
    atomic_io.write_file(path, b"old")

    def loses_a_byte(descriptor: int) -> None:
        os.ftruncate(descriptor, 2)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", loses_a_byte)
    with pytest.raises(OSError, match="what was read back is not what was written"):
        atomic_io.write_file(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_line_that_does_not_fit_is_an_error_even_if_its_first_half_does(tmp_path: Path) -> None:
    path = tmp_path / "log"
    atomic_io.append(path, b"a line\n")
    with files_of_at_most(20), pytest.raises(OSError, match="File too large"):
        atomic_io.append(path, b"a line of more than twenty bytes\n")
    assert path.read_bytes().startswith(b"a line\n")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            errno.ENOSPC,
            r"No space left on device. It needs 2.1 MB, [\d,.]+ MB are free. Nothing that .* Make room, then",
        ),
        (errno.EROFS, "Read-only file system. Nothing that was saved before is lost. Make the folder writable, then"),
        (errno.EACCES, "Permission denied. Nothing that was saved before is lost. Make the folder writable, then"),
        (errno.EIO, "Input/output error. Nothing that was saved before is lost. Mend that, then"),
    ],
)
def test_the_message_says_which_file_why_and_how_to_go_on(tmp_path: Path, number: int, said: str) -> None:
    message = atomic_io.explain(tmp_path, "checkpoint.pt", 2_100_000, OSError(number, os.strerror(number)))
    assert message.startswith(f"'{tmp_path}/checkpoint.pt' could not be written: ")
    assert message.endswith(f"then go on with: codistill train --resume {tmp_path}")
    import re

    assert re.search(said, message), message
