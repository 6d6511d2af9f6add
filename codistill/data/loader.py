"""Loaders without workers: a batch is an index, a gather and a normalisation."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codistill.core.batch import Batch, Mixed
from codistill.data.images import Images, normalise
from codistill.data.pixel_store import Resident, Store, Streamed
from codistill.data.sampler import ORDERS, rows_shown
from codistill.data.transforms.crop import Crop
from codistill.data.transforms.mixup import Mix, Mixing, mixed
from codistill.data.transforms.policy import Policy
from codistill.errors import UserError


class TrainLoader:
    """Shuffled, augmented batches. Epoch e is a pure function of (seed, e), whatever was iterated before.

    The last, smaller batch of an epoch is left out. ``augmentations``: how many independent ones a batch holds; the
    first is the same however many there are. ``order``: a key of ``codistill.data.sampler.ORDERS``. ``resident``: keep
    all images on the device, for where they fit; the batches are the same. ``rank`` of ``processes``: each shows its
    part of every batch, the same images and augmentations that one process alone would show there.

    ``crop``: of images of this size. ``policy``: what follows the crop. ``mixing``: of each batch with itself, the same
    in all augmentations. ``told``: what students of these names are told instead of the labels, (n,) each.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        crop: Crop,
        policy: Policy | None = None,
        mixing: Mixing | None = None,
        told: Mapping[str, Tensor] | None = None,
        augmentations: int = 1,
        order: str = "shuffled",
        resident: bool = True,
        device: torch.device | str = "cpu",
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        device = torch.device(device)
        share = _share(batch_size, processes)
        self._batches = batches_per_epoch(images, batch_size, order, processes)
        self.size = (images.pixels.shape[1], images.pixels.shape[2])
        if crop.padding >= min(self.size):
            raise UserError(
                f"augment.padding={crop.padding} must be smaller than the images ({min(self.size)} pixels)."
            )
        self._crop, self._policy, self._mixing = crop, policy, mixing
        self._pixels: Store = (Resident if resident else Streamed)(images.pixels, crop.padding, device)
        self._labels = images.labels.to(device)
        self._told = {name: labels.to(device) for name, labels in (told or {}).items()}
        self._batch_size = batch_size
        self._part = slice(rank * share, (rank + 1) * share)  # in one piece, so that pairs stay together
        self._order = ORDERS[order]
        self._seed = seed
        self._augmentations = augmentations
        self._mean = torch.tensor(mean, device=device)
        self._std = torch.tensor(std, device=device)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._batches

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number``, from the one numbered ``start`` on."""
        # A generator for each augmentation and one for the draws, so that none disturbs another.
        first, *others, for_draws = (self._generator(number, stream) for stream in range(self._augmentations + 1))
        order = self._order(self._labels, first)
        batches = order[: len(self) * self._batch_size].split(self._batch_size)
        random = self._random(number, [first, *others], for_draws)
        shares = [self._shown(rows) for rows in batches]
        chosen = islice(zip(shares, random, strict=False), start, None)  # the batches before draw their numbers too
        for (rows, drawn), (padded, at) in zip(chosen, self._pixels.fetch(shares[start:]), strict=True):
            images, *extra = (self._augmented(padded, at, own) for own in drawn.augmentations)
            batch = Batch(images, self._labels[rows], tuple(extra), drawn.draws[self._part])
            if self._told:
                batch = batch._replace(told={name: labels[rows] for name, labels in self._told.items()})
            yield batch if drawn.mix is None else _mixed(batch, drawn.mix)

    def at(self, step: int) -> tuple[Tensor, Batch]:
        """The rows (B,) of the images, and the batch, of a step counted from 0 over all epochs."""
        epoch, index = divmod(step, len(self))
        order = self._order(self._labels, self._generator(epoch, 0))
        return order.split(self._batch_size)[index][self._part], next(self.epoch(epoch, index))

    def _random(
        self, epoch: int, generators: Sequence[torch.Generator], for_draws: torch.Generator
    ) -> Iterator["_Drawn"]:
        """All random numbers of one batch after the other."""
        size, device = self._batch_size, self._labels.device
        # These are of the CPU, and streams of their own: who has no policy draws nothing from them.
        for_policy = [self._generator(epoch, _POLICY + number, "cpu") for number in range(len(generators))]
        for_mixing = np.random.default_rng([self._seed, epoch])
        while True:
            augmentations = []
            for generator, of_policy in zip(generators, for_policy, strict=True):
                cut = self._crop.draw(size, generator)
                changed = self._policy.draw(size, of_policy) if self._policy else ()
                augmentations.append((tuple(map(self._shown, cut)), tuple(map(self._shown, changed))))
            draws = torch.randint(0, 2**31 - 1, (size,), generator=for_draws, device=device)
            yield _Drawn(augmentations, draws, self._mixing.draw(for_mixing, self.size) if self._mixing else None)

    def _shown(self, of_batch: Tensor) -> Tensor:
        """This process's part of what is given for a whole batch.

        Each image is mixed with the one before it. So with mixing, the element before the part comes first too; before
        the batch's first one, that is its last.
        """
        part = of_batch[self._part]
        if self._mixing is None:
            return part
        return torch.cat([of_batch[self._part.start - 1 :][:1], part])

    def _generator(self, epoch: int, stream: int, device: torch.device | str | None = None) -> torch.Generator:
        # Spread over 32 bits: the generator of a CPU looks at no more of its seed.
        seed = self._seed * 1_000_003 + epoch + stream * 2_654_435_761
        return torch.Generator(device or self._labels.device).manual_seed(seed % 2**32)

    def _augmented(self, padded: Tensor, rows: Tensor, drawn: "_Augmentation") -> Tensor:
        cut, changed = drawn
        images = self._crop.cut(padded, rows, *cut)
        if self._policy is not None:
            images = self._policy.apply(images, *changed)
        return normalise(images, self._mean, self._std)


_POLICY = 1000  # the first of the policies' streams
_Augmentation = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]  # what is drawn for the crop, and for the policy


class _Drawn(NamedTuple):
    """The random numbers of a batch."""

    augmentations: list[_Augmentation]
    draws: Tensor  # (B,) of the batch of all processes
    mix: Mix | None


def _mixed(batch: Batch, mix: Mix) -> Batch:
    """A batch, but for its draws with one row before its first: each row but that one, mixed with the row before."""
    images, *extra = (mixed(images[1:], images[:-1], mix) for images in (batch.images, *batch.extra))
    labels = batch.labels[1:]
    share = torch.full(labels.shape, mix.share, device=labels.device)
    return Batch(images, labels, tuple(extra), batch.draws, Mixed(batch.labels[:-1], share))


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


def batches_per_epoch(images: Images, batch_size: int, order: str, processes: int = 1) -> int:
    """Whole batches of ``batch_size`` images, which all processes share. Raises UserError where there is none."""
    rows = rows_shown(images.labels, order, _share(batch_size, processes))
    if batch_size > rows:
        raise UserError(
            f"batch_size={batch_size} is larger than the training data: {rows} images.{_that_fits(rows, processes)}"
        )
    return rows // batch_size


def _that_fits(rows: int, processes: int) -> str:
    """A batch size that would do, as a sentence; nothing if there is none."""
    pairs = rows // (2 * processes)
    return f" batch_size={2 * processes << (pairs.bit_length() - 1)} would do." if pairs else ""


def _share(batch_size: int, processes: int) -> int:
    """How many images of a batch each process sees. Raises UserError unless all see as many, and two at least."""
    if batch_size % processes or batch_size < 2 * processes:
        raise UserError(
            f"batch_size={batch_size} is the batch of all {processes} processes together, and each must see as many of "
            f"its images, two at least. Choose a multiple of {processes}, from {2 * processes} up."
        )
    return batch_size // processes
