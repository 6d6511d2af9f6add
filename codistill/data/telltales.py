"""What training images tell before training: which data they are, and what will hardly go well with them."""

import json
from collections.abc import Sequence

import torch

from codistill.data.cache_entry import digest
from codistill.data.images import Images

IMBALANCED = 5  # times as many images of one class as of another
SAMPLE = 200
SHOWN = 3  # classes
LONGEST = 24  # letters shown of a name


def imbalance(images: Images) -> str | None:
    """A warning where some class has many times the images of another."""
    counts = torch.bincount(images.labels, minlength=len(images.class_names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < IMBALANCED * counts[least]:
        return None
    return (
        f"The training images are imbalanced: class '{images.class_names[most]}' has {counts[most]:,}, class "
        f"'{images.class_names[least]}' {counts[least]:,}. order=balanced shows all classes equally often."
    )


def some_names(class_names: Sequence[str]) -> str:
    """The first classes, by which one sees whether they are those that were meant."""
    words = [" ".join(name.split()) for name in class_names[:SHOWN]]  # in one line
    shown = [word if len(word) <= LONGEST else f"{word[: LONGEST - 3]}..." for word in words]
    return ", ".join([*shown, "..."] if len(class_names) > SHOWN else shown)


def is_grey(images: Images) -> bool:
    """Whether red, green and blue are the same, in a sample of the images."""
    pixels = images.spread(SAMPLE).pixels
    return bool((pixels == pixels[..., :1]).all())


def fingerprint(images: Images, mean: Sequence[float], std: Sequence[float]) -> str:
    """A hash of labels, of class names, of a sample of the pixels, and of mean and std, which know of all of them."""
    facts = json.dumps([list(images.pixels.shape), images.class_names, list(mean), list(std)]).encode()
    pixels = images.spread(SAMPLE).pixels.contiguous().numpy().tobytes()
    return digest(facts + images.labels.numpy().astype("<i8").tobytes() + pixels)
