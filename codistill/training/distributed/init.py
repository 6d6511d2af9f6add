"""Which processes train: this one alone, or all that a launcher started."""

from codistill.training.distributed.ddp import Together
from codistill.training.distributed.launcher import launched
from codistill.training.distributed.process_group import ALONE, Processes


def join(device: str, sharding: str = "none") -> Processes:
    """The processes that a launcher started with this one; ``device`` and ``sharding`` are the configuration's.

    Raises UserError where they cannot train together.
    """
    if not launched():
        return ALONE
    if sharding == "parameters":
        from codistill.training.distributed.fsdp import Sharded  # which imports much of PyTorch

        return Sharded(device)
    return Together(device)
