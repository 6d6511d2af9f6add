"""Loaders over images in memory: no workers, no copies; a batch is an index, a gather and a normalisation."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from codistill.batch import Batch
from codistill.data.augment import crop_and_flip, normalise, pad_reflect
from codistill.data.images import Images
from codistill.data.order import ORDERS, rows_shown
from codistill.errors import UserError


class TrainLoader:
    """Shuffled, augmented batches. Epoch e is a pure function of (seed, e), whatever was iterated before.

    The last, smaller batch of an epoch is left out. ``augmentations``: how many independent ones a batch holds; the
    first is the same however many there are. ``order``: a key of ``codistill.data.order.ORDERS``.
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
        device: torch.device | str = "cpu",
    ) -> None:
        rows = rows_shown(images.labels, order, batch_size)
        if batch_size > rows:
            raise UserError(f"batch_size={batch_size} is larger than the training data: {rows} images.")
        self.size = (images.pixels.shape[1], images.pixels.shape[2])
        if not 0 <= padding < min(self.size):
            raise UserError(f"augment.padding={padding} must be smaller than the images ({min(self.size)} pixels).")
        self._padded = pad_reflect(images.pixels.to(device), padding)
        self._labels = images.labels.to(device)
        self._batch_size = batch_size
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

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``."""
        device = self._padded.device
        # A generator for each augmentation and one for the draws, so that none disturbs another.
        first, *others, for_draws = (self._generator(number, stream) for stream in range(self._augmentations + 1))
        order = self._order(self._labels, first)
        for start in range(0, len(self) * self._batch_size, self._batch_size):
            rows = order[start : start + self._batch_size]
            images = self._augmented(rows, first)
            extra = tuple(self._augmented(rows, generator) for generator in others)
            draws = torch.randint(0, 2**31 - 1, (len(rows),), generator=for_draws, device=device)
            yield Batch(images, self._labels[rows], extra, draws)

    def _generator(self, epoch: int, stream: int) -> torch.Generator:
        # Spread over 32 bits: the generator of a CPU looks at no more of its seed.
        seed = self._seed * 1_000_003 + epoch + stream * 2_654_435_761
        return torch.Generator(self._padded.device).manual_seed(seed % 2**32)

    def _augmented(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        count, device = len(rows), rows.device
        corner = torch.randint(0, 2 * self._padding + 1, (2, count), generator=generator, device=device)
        mirrored = torch.rand(count, generator=generator, device=device) < (0.5 if self._flip else 0.0)
        crops = crop_and_flip(self._padded, rows, corner[0], corner[1], mirrored, self.size)
        return normalise(crops, self._mean, self._std)


class EvaluationLoader:
    """All images once, in order, as they are."""

    def __init__(
        self,
        images: Images,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int = 1000,
        device: torch.device | str = "cpu",
    ) -> None:
        self._pixels = images.pixels.to(device)
        self._labels = images.labels.to(device)
        self._batch_size = batch_size
        self._mean = torch.tensor(mean, device=device)
        self._std = torch.tensor(std, device=device)

    def __iter__(self) -> Iterator[Batch]:
        chunks = zip(self._pixels.split(self._batch_size), self._labels.split(self._batch_size), strict=True)
        for pixels, labels in chunks:
            yield Batch(normalise(pixels.permute(0, 3, 1, 2), self._mean, self._std), labels)
