"""The batch on which training diverged, for whoever wants to look at it.

Batches are a pure function of (seed, epoch, step), so none is kept during training: this one is made again.
"""

from collections.abc import Callable

from torch import Tensor

from codistill.core.batch import Batch
from codistill.storage.atomic_io import SaveError
from codistill.storage.run_dir import RunFolder
from codistill.training.meter import DivergedError


class BadBatch:
    """``batch_of``: the rows among the training images, and the batch, of a step counted from 0 over all epochs."""

    def __init__(
        self, folder: RunFolder, batch_of: Callable[[int], tuple[Tensor, Batch]], steps_per_epoch: int
    ) -> None:
        self._folder, self._batch_of, self._steps_per_epoch = folder, batch_of, steps_per_epoch

    def kept(self, error: DivergedError, steps_done: int) -> DivergedError:
        """Save the batch of the first bad step; the error with that step and the file in its message."""
        bad = steps_done - error.steps_ago
        where = {"epoch": bad // self._steps_per_epoch + 1, "step": bad + 1}  # as in metrics.jsonl
        rows, batch = self._batch_of(bad)
        tensors = {"images": batch.images, "labels": batch.labels, "rows": rows}
        tensors |= {f"images_{number}": images for number, images in enumerate(batch.extra, 2)}
        if batch.draws is not None:
            tensors["draws"] = batch.draws
        if batch.mixed is not None:
            tensors |= {"other_labels": batch.mixed.labels, "share": batch.mixed.share}
        message = f"{error} It was so first in epoch {where['epoch']}, step {where['step']}."
        try:
            path = self._folder.save_bad_batch(tensors, where)
        except SaveError:  # a full disk does not make this any better
            return DivergedError(message)
        return DivergedError(f"{message} The batch of that step is in '{path}'.")
