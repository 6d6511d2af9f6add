"""Files that survive: each is whole or as it was before, whatever ends the process, fills the disk or cuts the power.

A file is written beside its place, brought to the disk, read back, and only then renamed into its place.
"""

import errno
import hashlib
import os
import shlex
import shutil
from contextlib import suppress
from pathlib import Path

from codistill.errors import TrainingEnded

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)


class SaveError(TrainingEnded):
    """A file of a run could not be written during training."""


def write_file(path: Path, data: bytes, previous: Path | None = None) -> None:
    """Put ``data`` at ``path``; with ``previous``, what was there before is kept under that name.

    Raises OSError if it cannot be written or is not read back as it was written: then nothing has changed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with temporary.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != hashlib.sha256(data).digest():
                raise OSError(errno.EIO, "what was read back is not what was written")
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def append(path: Path, line: bytes) -> None:
    """Add a line at the end of a file, in one system call where the disk lets it."""
    with path.open("ab", buffering=0) as file:
        while line:
            line = line[file.write(line) :]


def bring_to_disk(path: Path) -> None:
    """Wait until what was appended to a file would outlast a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A renamed file is only safe once its folder is. Some network file systems cannot do this, and need not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def explain(run: Path, name: str, size: int, error: OSError) -> str:
    """What to say of a file of ``size`` bytes that could not be written into a run's folder, and how to go on."""
    again = shlex.join(["codistill", "train", "--resume", str(run)])
    if not run.is_dir():
        return (
            f"Run folder '{run}' was deleted or moved during training, so '{name}' could not be written. "
            f"Start again, or move it back and go on with: {again}"
        )
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        reason += f". It needs {megabytes(size)}, {megabytes(shutil.disk_usage(run).free)} are free"
        mend = "Make room"
    elif error.errno in _NOT_ALLOWED:
        mend = "Make the folder writable"
    else:
        mend = "Mend that"
    return (
        f"'{run}/{name}' could not be written: {reason}. Nothing that was saved before is lost. "
        f"{mend}, then go on with: {again}"
    )


def megabytes(size: int) -> str:
    """``2.1 MB``."""
    return f"{size / 1e6:,.1f} MB"
