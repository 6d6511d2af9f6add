"""What images tell before training: which data they are, and what will hardly go well with those to train on."""

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from codistill.data.cache_entry import digest
from codistill.data.images import Images, Splits, chunks
from codistill.errors.printable import printable

IMBALANCED = 5  # times as many images of one class as of another
SAMPLE = 200
DARK = 32  # of 255
SHOWN = 3  # classes
LONGEST = 24  # letters shown of a name
MOST_HASHED = 2**30  # bytes of a split


def imbalance(images: Images) -> str | None:
    """A warning where some class has many times the images of another."""
    counts = torch.bincount(images.labels, minlength=len(images.class_names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < IMBALANCED * counts[least]:
        return None
    return (
        f"The training images are imbalanced: class '{printable(images.class_names[most])}' has {counts[most]:,}, "
        f"class '{printable(images.class_names[least])}' {counts[least]:,}. order=balanced shows all classes equally "
        "often."
    )


def names_alike(class_names: Sequence[str]) -> str | None:
    """A warning of names that are one but for what is easily overlooked. Single letters may well differ by case."""
    alike: dict[str, list[str]] = {}
    for name in class_names:
        plain = as_one_reads_it(name)
        alike.setdefault(plain.casefold() if len(plain) > 1 else plain, []).append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if not groups:
        return None
    some = "; ".join(" and ".join(_apart(names)) for names in groups[:SHOWN])
    more = f"; {len(groups) - SHOWN:,} more" if len(groups) > SHOWN else ""
    return (
        f"Classes whose names differ only in case, spaces or Unicode form are told apart: {some}{more}. If they are "
        "one class, give it one name."
    )


def as_one_reads_it(name: str) -> str:
    """Without what is easily overlooked, but for capitals."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _apart(names: Sequence[str]) -> list[str]:
    """Names in quotes, so that one sees how they differ: with accents as codes where they look the same."""
    look_the_same = len({unicodedata.normalize("NFC", name) for name in names}) < len(names)
    return [ascii(name) if look_the_same else repr(name) for name in names]


def some_names(class_names: Sequence[str]) -> str:
    """The first classes, by which one sees whether they are those that were meant."""
    words = [printable(name) for name in class_names[:SHOWN]]
    short = [word if len(word) <= LONGEST else f"{word[: LONGEST - 3]}..." for word in words]
    return ", ".join([*short, "..."] if len(class_names) > SHOWN else short)


def is_grey(images: Images) -> bool:
    """Whether red, green and blue are the same, in a sample of the images."""
    pixels = images.spread(SAMPLE).pixels
    return bool((pixels == pixels[..., :1]).all())


def nearly_black(images: Images) -> str | None:
    """A warning where no pixel of a sample of the images is light, as of 10 or 12 bits in files that have 16."""
    lightest = int(images.spread(SAMPLE).pixels.max())
    if lightest >= DARK:
        return None
    return (
        f"The training images are nearly black: of a sample no pixel is above {lightest} of 255. If they hold 10 or 12 "
        "bits in files of 16, whose upper 8 are read, scale them to all 16 first."
    )


def fingerprint(images: Images, mean: Sequence[float], std: Sequence[float]) -> str:
    """A hash of labels, of class names, of a sample of the pixels, and of mean and std, which know of all of them.

    Runs of earlier versions know this one alone. Images that changed places escape it, unless they are of the sample.
    """
    facts = json.dumps([list(images.pixels.shape), images.class_names, list(mean), list(std)]).encode()
    pixels = images.spread(SAMPLE).pixels.contiguous().numpy().tobytes()
    return digest(facts + images.labels.numpy().astype("<i8").tobytes() + pixels)


def fingerprints(splits: Splits, most: int = MOST_HASHED) -> dict[str, str]:
    """By split: a hash of class names, labels and pixels, in order.

    Of more than ``most`` bytes, a part of each image: lines, evenly spread. It takes less time than mean and std do.
    """
    return {name: _hash_all(images, most) for name, images in splits._asdict().items() if images is not None}


def changed_splits(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Those that are others by their fingerprints. Runs of earlier versions know fewer of these, or none."""
    return [split for split in now if before.get(split, now[split]) != now[split]]


def changed_since(checkpoint: Mapping[str, Any], fingerprint: str, fingerprints: Mapping[str, str]) -> list[str]:
    """Splits of a run whose images are others than when its checkpoint was written; train is told by either hash."""
    changed = changed_splits(checkpoint.get("fingerprints", {}), fingerprints)
    return changed if "train" in changed or checkpoint["data"] == fingerprint else ["train", *changed]


def _hash_all(images: Images, most: int) -> str:
    pixels = images.pixels
    every = math.ceil(pixels.numel() / most)
    found = hashlib.sha256(json.dumps([list(pixels.shape), images.class_names]).encode())
    found.update(images.labels.numpy().astype("<i8").tobytes())
    for chunk in chunks(pixels[:, ::every]):
        found.update(chunk.contiguous().numpy().data)
    return found.hexdigest()[:32]
