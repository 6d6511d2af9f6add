"""One run folder, one training process.

The lock is the operating system's (``flock``) on the file ``.lock``, so it ends with its process, however that ends.
The file stays, for it is the lock that counts; its text only tells others who holds it. Reading a run needs no lock.
"""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from codistill.errors import UserError

NAME = ".lock"
PATIENCE = 0.5  # seconds: a report that asks whether a run is trained holds its lock for a moment


class RunLock:
    """The lock of one run folder."""

    def __init__(self, run: Path, warn: Callable[[str], None]) -> None:
        self._run, self._warn = run, warn
        self._lock = FileLock(run / NAME, fallback_to_soft=False)
        self._held = False

    def acquire(self) -> None:
        """Raises UserError that names the holder if another process trains here, and OSError as a file may."""
        if self._held:
            return
        try:
            self._lock.acquire(timeout=PATIENCE, poll_interval=0.02)
        except Timeout:
            raise UserError(
                f"Run folder '{self._run}' is being trained by {self._holder()}. "
                "Wait for it, stop it, or choose another run=..."
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP):
                raise
            self._warn(f"The file system of '{self._run}' has no locks: see that nobody else trains in this folder.")
            self._held = True
            return
        self._held = True
        (self._run / NAME).write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")

    def release(self) -> None:
        self._lock.release()
        self._held = False

    def _holder(self) -> str:
        try:
            process, host = (self._run / NAME).read_text(encoding="utf-8").split()
        except (OSError, ValueError):  # it has this very moment begun
            return "another process"
        return f"process {process} on {host}"
