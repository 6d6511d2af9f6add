"""In which order an epoch shows the images."""

from collections.abc import Callable

import torch
from torch import Tensor

from codistill.errors import UserError


def shuffled(labels: Tensor, generator: torch.Generator) -> Tensor:
    """All rows, in random order: (n,) labels -> (n,) rows."""
    return torch.randperm(len(labels), generator=generator, device=labels.device)


def class_pairs(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Rows in random pairs of the same class, so that in a batch of even size every image has a partner.

    For contrastive losses that need positives (MCL, arXiv:2104.12565, samples its batches so). Where a class has an
    odd number of images, one of them, each time another, is left out.
    """
    order = shuffled(labels, generator)
    order = order[labels[order].argsort(stable=True)]  # classes in turn, each in random order
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(order), device=labels.device) - starts[labels[order]]  # within the class
    pairs = order[place < counts[labels[order]] // 2 * 2].view(-1, 2)
    return pairs[torch.randperm(len(pairs), generator=generator, device=labels.device)].flatten()


def balanced(labels: Tensor, generator: torch.Generator) -> Tensor:
    """As many rows as there are, each of a class drawn with equal probability: images of small classes come again."""
    n, device = len(labels), labels.device
    by_class = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    present = counts.nonzero()[:, 0]
    classes = present[torch.randint(0, len(present), (n,), generator=generator, device=device)]
    place = torch.randint(0, 2**62, (n,), generator=generator, device=device) % counts[classes]
    return by_class[(counts.cumsum(0) - counts)[classes] + place]


ORDERS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "shuffled": shuffled,
    "class_pairs": class_pairs,
    "balanced": balanced,
}


def rows_shown(labels: Tensor, order: str, batch_size: int) -> int:
    """How many rows an epoch in this order has. Raises UserError for class pairs in batches of odd size."""
    if order != "class_pairs":
        return len(labels)
    if batch_size % 2:
        raise UserError(f"order=class_pairs needs an even batch_size in each process, got {batch_size}.")
    return int((torch.bincount(labels) // 2 * 2).sum())
