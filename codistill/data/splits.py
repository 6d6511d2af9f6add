"""From a source to train, validation and test images.

Order matters and is fixed: classes are chosen, then a test split is carved if the source has none, then validation,
then ``per_class`` training images are drawn from what is left. The test images are the same whatever the rest says.
"""

from collections.abc import Sequence

import numpy as np
import torch

from codistill.data.classes import NO_LABEL, too_few_classes
from codistill.data.fingerprint import as_one_reads_it
from codistill.data.images import SMALLEST, Images, Splits
from codistill.data.rows import Rows, choose_classes, per_class_subset, stratified_split
from codistill.data.sources.base import Part, Source, leave_out, whole
from codistill.errors import UserError

SHOWN = 5  # classes


def prepare(
    source: Source,
    *,
    image_size: int | None = None,
    resize: str = "squash",
    classes: int | None = None,
    per_class: int | None = None,
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> Splits:
    """Read a source. Arguments as in ``codistill.config.schema.DataConfig``."""
    _check_same_classes(source)
    chosen = _chosen(source, classes, seed)
    parts = {split: _restrict(source, whole(source, split), chosen) for split in source.splits}
    train, given_validation, given_test = parts["train"], parts.get("validation"), parts.get("test")
    if given_test is None:
        given_test, given_validation = given_validation, None  # a lone validation split is what papers report on
    if given_test is None:
        kept, held_out = stratified_split(_labels(source, train), test, seed, source.class_names)
        train, given_test = train.only(kept), train.only(held_out)
    held = None
    if validation > 0:
        held = given_validation
        if held is None:
            kept, held_out = stratified_split(_labels(source, train), validation, seed, source.class_names)
            train, held = train.only(kept), train.only(held_out)
    if per_class is not None:
        train = train.only(per_class_subset(_labels(source, train), per_class, seed, source.class_names))

    images = [
        _read(source, part, chosen, image_size, resize) if part is not None else None
        for part in (train, held, given_test)
    ]
    assert images[0] is not None
    assert images[2] is not None
    splits = Splits(images[0], images[1], images[2])
    sizes = {tuple(part.pixels.shape[1:3]) for part in splits if part is not None}
    if len(sizes) > 1:
        raise UserError(f"The splits have images of different sizes: {sorted(sizes)}. Set data.image_size.")
    height, width = sizes.pop()
    if min(height, width) < SMALLEST:
        raise UserError(
            f"The images have {width}x{height} pixels, students need {SMALLEST}x{SMALLEST}. "
            "Set data.image_size to enlarge them."
        )
    return splits


def place_of(images: Images, row: int, source: Source) -> str:
    """Where an image that ``prepare`` read is, in words by which a user finds it."""
    if images.origin is None:
        return f"row {row}"
    return source.place(images.origin.split, int(images.origin.rows[row]))


def test_origin(source: Source, share: float, ignored: Sequence[str]) -> str:
    """Where the test images of ``prepare`` come from, in words; ``share`` is its ``test``.

    ignored: splits that the source has, and that are left out of it.
    """
    if "test" in source.splits:
        return "the data's test split"
    if "validation" in source.splits:
        why = "its test split is left out" if "test" in ignored else "it has no test split"
        return f"the data's validation split, for {why}"
    why = "the data has no other split"
    if ignored:
        why = f"the data's {' and '.join(ignored)} split{'s are' if len(ignored) > 1 else ' is'} left out"
    return f"{share:.0%} of train, held out, for {why}"


def superclasses(source: Source, column: str, *, classes: int | None = None, seed: int = 0) -> list[int]:
    """The superclass of each class that ``prepare`` keeps, from the label column, numbered from 0 without gaps."""
    kept = source.superclasses(column)[_chosen(source, classes, seed)]
    numbers: list[int] = np.unique(kept, return_inverse=True)[1].tolist()
    return numbers


def _chosen(source: Source, classes: int | None, seed: int) -> Rows:
    """The labels of the classes that are kept, ascending."""
    num_classes = len(source.class_names)
    chosen = np.arange(num_classes) if classes is None else choose_classes(num_classes, classes, seed)
    present = np.intersect1d(chosen, source.labels("train"))
    if len(present) < 2:
        raise too_few_classes([source.class_names[label] for label in present])
    return chosen


def _labels(source: Source, part: Part) -> Rows:
    return source.labels(part.split)[part.rows]


def _restrict(source: Source, part: Part, chosen: Rows) -> Part:
    return part.only(np.flatnonzero(np.isin(_labels(source, part), chosen)))


def _read(source: Source, part: Part, chosen: Rows, image_size: int | None, resize: str) -> Images:
    labels = np.searchsorted(chosen, _labels(source, part))
    names = tuple(source.class_names[label] for label in chosen)
    return Images(source.pixels(part.split, part.rows, image_size, resize), torch.from_numpy(labels), names, part)


def _check_same_classes(source: Source) -> None:
    present = {split: set(np.unique(source.labels(split)).tolist()) for split in source.splits}
    for split, labels in present.items():
        missing = sorted(set().union(*present.values()) - labels)
        if missing:
            names = ", ".join(repr(source.class_names[label]) for label in missing[:SHOWN])
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            hints = [_other_spelling(source.class_names, missing, sorted(labels))]
            if NO_LABEL in [source.class_names[label] for label in missing]:
                hints.append(f" If {NO_LABEL} means that an image has no label, remove these rows.")
            if split != "train":
                hints.append(f" {leave_out(split)}")
            raise UserError(
                f"Split '{split}' has no image of {len(missing)} of the classes: {names}{more}.{''.join(hints)}"
            )


def _other_spelling(names: Sequence[str], missing: Sequence[int], there: Sequence[int]) -> str:
    """What to say if a split has a class by nearly the same name as one that it lacks."""
    spelt = {as_one_reads_it(names[label]).casefold(): names[label] for label in there}
    pairs = [(names[label], spelt.get(as_one_reads_it(names[label]).casefold())) for label in missing]
    for lacking, other in pairs:
        if other is not None:
            capitals = as_one_reads_it(lacking) != as_one_reads_it(other)
            differ, shown = ("capitals", repr) if capitals else ("spaces or Unicode form", ascii)
            return (
                f" It has images of {shown(other)}, which differs from {shown(lacking)} only in {differ}: give both "
                "splits one spelling."
            )
    return ""
