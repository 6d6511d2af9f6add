"""Which processes train: this one alone, or all that a launcher started."""

from codistill.engine.launched import launched
from codistill.engine.processes import ALONE, Processes
from codistill.engine.together import Together


def join(device: str, sharding: str = "none") -> Processes:
    """The processes that a launcher started with this one; ``device`` and ``sharding`` are the configuration's.

    Raises UserError where they cannot train together.
    """
    if not launched():
        return ALONE
    if sharding == "parameters":
        from codistill.engine.sharded import Sharded  # which imports much of PyTorch

        return Sharded(device)
    return Together(device)
