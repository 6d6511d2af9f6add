"""Loaders without workers: a batch is an index, a gather and a normalisation."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from codistill.batch import Batch
from codistill.data.augment import crop_and_flip, normalise
from codistill.data.images import Images
from codistill.data.order import ORDERS, rows_shown
from codistill.data.store import Resident, Store, Streamed
from codistill.errors import UserError


class TrainLoader:
    """Shuffled, augmented batches. Epoch e is a pure function of (seed, e), whatever was iterated before.

    The last, smaller batch of an epoch is left out. ``augmentations``: how many independent ones a batch holds; the
    first is the same however many there are. ``order``: a key of ``codistill.data.order.ORDERS``. ``resident``: keep
    all images on the device, for where they fit; the batches are the same. ``rank`` of ``processes``: each shows its
    part of every batch, the same images and augmentations that one process alone would show there.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        padding: int,
        flip: bool,
        seed: int,
        augmentations: int = 1,
        order: str = "shuffled",
        resident: bool = True,
        device: torch.device | str = "cpu",
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        device = torch.device(device)
        share = _share(batch_size, processes)
        rows = rows_shown(images.labels, order, share)
        if batch_size > rows:
            raise UserError(f"batch_size={batch_size} is larger than the training data: {rows} images.")
        self.size = (images.pixels.shape[1], images.pixels.shape[2])
        if not 0 <= padding < min(self.size):
            raise UserError(f"augment.padding={padding} must be smaller than the images ({min(self.size)} pixels).")
        self._pixels: Store = (Resident if resident else Streamed)(images.pixels, padding, device)
        self._labels = images.labels.to(device)
        self._batch_size = batch_size
        self._part = slice(rank * share, (rank + 1) * share)  # in one piece, so that pairs stay together
        self._batches = rows // batch_size
        self._order = ORDERS[order]
        self._padding = padding
        self._flip = flip
        self._seed = seed
        self._augmentations = augmentations
        self._mean = torch.tensor(mean, device=device)
        self._std = torch.tensor(std, device=device)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._batches

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``, from the one numbered ``start`` on."""
        # A generator for each augmentation and one for the draws, so that none disturbs another.
        first, *others, for_draws = (self._generator(number, stream) for stream in range(self._augmentations + 1))
        order = self._order(self._labels, first)
        batches = order[: len(self) * self._batch_size].split(self._batch_size)
        random = (self._draw(len(rows), [first, *others], for_draws) for rows in batches)
        part = self._part
        shares = [rows[part] for rows in batches]
        chosen = islice(zip(shares, random, strict=True), start, None)  # the batches before draw their numbers too
        for (rows, (crops, draws)), (padded, at) in zip(chosen, self._pixels.fetch(shares[start:]), strict=True):
            images, *extra = (self._augmented(padded, at, corner[:, part], flips[part]) for corner, flips in crops)
            yield Batch(images, self._labels[rows], tuple(extra), draws[part])

    def at(self, step: int) -> tuple[Tensor, Batch]:
        """The rows (B,) of the images, and the batch, of a step counted from 0 over all epochs."""
        epoch, index = divmod(step, len(self))
        order = self._order(self._labels, self._generator(epoch, 0))
        return order.split(self._batch_size)[index][self._part], next(self.epoch(epoch, index))

    def _draw(
        self, count: int, generators: Sequence[torch.Generator], for_draws: torch.Generator
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """All random numbers of a batch: for each augmentation corners (2, B) and flips (B,); and the draws (B,)."""
        device = self._labels.device
        crops = []
        for generator in generators:
            corner = torch.randint(0, 2 * self._padding + 1, (2, count), generator=generator, device=device)
            flips = torch.rand(count, generator=generator, device=device) < (0.5 if self._flip else 0.0)
            crops.append((corner, flips))
        return crops, torch.randint(0, 2**31 - 1, (count,), generator=for_draws, device=device)

    def _generator(self, epoch: int, stream: int) -> torch.Generator:
        # Spread over 32 bits: the generator of a CPU looks at no more of its seed.
        seed = self._seed * 1_000_003 + epoch + stream * 2_654_435_761
        return torch.Generator(self._labels.device).manual_seed(seed % 2**32)

    def _augmented(self, padded: Tensor, rows: Tensor, corner: Tensor, mirrored: Tensor) -> Tensor:
        crops = crop_and_flip(padded, rows, corner[0], corner[1], mirrored, self.size)
        return normalise(crops, self._mean, self._std)


class EvaluationLoader:
    """All images once, in order, as they are. Batches of 1000, smaller where the images are large.

    ``rank`` of ``processes``: each shows its share of the batches, and none is shown twice.
    """

    def __init__(
        self,
        images: Images,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.images = images
        fair = -(-len(images) // processes)
        self._batch_size = max(1, min(1000, 4_000_000 // images.pixels[0, :, :, 0].numel(), fair))
        self._mine = slice(rank, None, processes)
        self._mean = torch.tensor(mean, device=device)
        self._std = torch.tensor(std, device=device)

    def __iter__(self) -> Iterator[Batch]:
        device, size = self._mean.device, self._batch_size
        batches = zip(self.images.pixels.split(size), self.images.labels.split(size), strict=True)
        for pixels, labels in list(batches)[self._mine]:
            images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
            yield Batch(normalise(images, self._mean, self._std), labels.to(device, non_blocking=True))


def _share(batch_size: int, processes: int) -> int:
    """How many images of a batch each process sees. Raises UserError unless all see as many, and two at least."""
    if batch_size % processes or batch_size < 2 * processes:
        raise UserError(
            f"batch_size={batch_size} is the batch of all {processes} processes together, and each must see as many of "
            f"its images, two at least. Choose a multiple of {processes}, from {2 * processes} up."
        )
    return batch_size // processes
