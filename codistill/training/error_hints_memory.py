"""What is said when memory runs out during training."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from codistill.errors import TrainingEnded

_ON_A_CPU = "DefaultCPUAllocator"  # its error has no class of its own, but this name


class OutOfMemory(TrainingEnded):
    """A step needs more memory than there is."""

    headline = "Out of memory"


def lacks_memory(error: RuntimeError) -> bool:
    """Whether PyTorch says so."""
    return isinstance(error, torch.OutOfMemoryError) or _ON_A_CPU in str(error)


@contextmanager
def out_of_memory_explained(run: Path, batch_size: int) -> Iterator[None]:
    """As a context: PyTorch's errors become one that says what to change, and how to go on."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one, too
        if not lacks_memory(error):
            raise
        folder, config = shlex.quote(str(run)), shlex.quote(str(run / "config.yaml"))
        raise OutOfMemory(
            f"a step with batch_size={batch_size} does not fit. Lower it, or make steps smaller: tasks on a part of "
            "the batch (fraction: 0.25 in a task), a smaller data.image_size, on a GPU precision=bf16. Start again "
            f"with what you change: codistill train {config} batch_size={max(2, batch_size // 2)} "
            f"run=ANOTHER_FOLDER. If it was others who took the memory, go on: codistill train --resume {folder}"
        ) from error
