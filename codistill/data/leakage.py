"""Pictures that are in train and in test or validation, too: what is measured on them says nothing of new ones."""

import numpy as np
from numpy.typing import NDArray

from codistill.data.images import Images, Splits
from codistill.data.sources.base import Source
from codistill.data.splits import place_of

MOST_BYTES = 2**30  # of pixels that are looked at
_CHUNK_BYTES = 2**22  # stay in the processor's cache
_SEED = 0


def repeated_pictures(splits: Splits, source: Source) -> list[str]:
    """A warning for test images, and one for validation images, whose pixels are those of a training image.

    Two images are one if they are so as students see them, so files may differ. More than ``MOST_BYTES`` (a gibibyte:
    350,000 images of 32 pixels, 7,000 of 224) are not looked at: a mapped file would be read for it, before training.
    """
    held_out = {"test": splits.test, "validation": splits.validation}
    parts = [part for part in (splits.train, *held_out.values()) if part is not None]
    if sum(part.pixels.numel() for part in parts) > MOST_BYTES:
        return []
    keys, first = np.unique(_keys(splits.train), return_index=True)
    warnings = []
    for name, part in held_out.items():
        if part is None:
            continue
        of_part = _keys(part)
        place = np.searchsorted(keys, of_part).clip(max=len(keys) - 1)
        candidates = np.flatnonzero(keys[place] == of_part)
        pairs = [(row, first[place[row]]) for row in candidates.tolist()]
        pairs = [(row, twin) for row, twin in pairs if part.pixels[row].equal(splits.train.pixels[twin])]
        if pairs:
            row, twin = pairs[0]
            are = "are training images, too" if len(pairs) > 1 else "is a training image, too"
            warnings.append(
                f"{len(pairs):,} of {len(part):,} {name} images {are}, such as {place_of(part, row, source)}, which is "
                f"{place_of(splits.train, twin, source)}. Keep each picture in one split, or {name} accuracy will be "
                "better than that on new images."
            )
    return warnings


def _keys(images: Images) -> NDArray[np.uint64]:
    """(n,) equal for equal images, and hardly ever for others: a sum of the pixels, weighed by random numbers."""
    rows = images.pixels.flatten(1).numpy()
    whole = rows.shape[1] // 8 * 8  # bytes that are read eight at a time
    random = np.random.default_rng(_SEED)
    words = random.integers(0, 2**64, whole // 8, dtype=np.uint64) | np.uint64(1)  # odd, so that no byte is lost
    rest = random.integers(0, 2**64, rows.shape[1] - whole, dtype=np.uint64)
    step = max(1, _CHUNK_BYTES // rows.shape[1])
    found = [
        chunk[:, :whole].view(np.uint64) @ words + chunk[:, whole:].astype(np.uint64) @ rest
        for chunk in (rows[start : start + step] for start in range(0, len(rows), step))
    ]
    return np.concatenate(found)
