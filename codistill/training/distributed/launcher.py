"""Whether a launcher (torchrun) started this process among others, and how such a process ends. No torch in here."""

import os
import sys
from typing import NoReturn


def launched() -> bool:
    """Whether there are several processes, as far as the launcher says; nothing need be joined yet."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def is_main() -> bool:
    """Whether this process is the one that people read."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    Where it was joined with others it ends at once, without Python's own clean-up: during that, threads of
    torch.distributed sometimes abort a process whose work is done, and the launcher would call the job failed.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)
