"""Image data: sources by name, splits, and loaders over images in memory."""

from collections.abc import Callable, Sequence

from codistill.data.augmentation import augmentation
from codistill.data.digits import Digits
from codistill.data.folder import NoSuchData
from codistill.data.hub import HubData
from codistill.data.images import Images, Splits, channel_statistics
from codistill.data.loader import EvaluationLoader, TrainLoader, batches_per_epoch
from codistill.data.prepare import place_of, prepare, superclasses, test_origin
from codistill.data.repeated import repeated_pictures
from codistill.data.source import Progress, Source, WithoutSplits
from codistill.data.store import padded_bytes
from codistill.data.synthetic import Synthetic
from codistill.data.telltales import (
    changed_since,
    changed_splits,
    fingerprint,
    fingerprints,
    imbalance,
    is_grey,
    names_alike,
    nearly_black,
    some_names,
)
from codistill.errors import UserError

SOURCES: dict[str, Callable[[], Source]] = {"digits": Digits, "synthetic": Synthetic}


def open_source(
    name: str,
    label: str | None = None,
    *,
    cache: bool = True,
    progress: Progress | None = None,
    ignore_splits: Sequence[str] = (),
) -> Source:
    """A built-in source by name; else a folder or hub name for ``datasets``. Arguments as of ``HubData``."""
    if name in SOURCES:
        if label is not None:
            raise UserError(f"data.label chooses a column of a folder or hub data set; '{name}' has one label only.")
        return WithoutSplits(SOURCES[name](), ignore_splits, name) if ignore_splits else SOURCES[name]()
    return HubData(name, label, cache=cache, progress=progress, ignore_splits=ignore_splits)


__all__ = [
    "SOURCES",
    "EvaluationLoader",
    "Images",
    "NoSuchData",
    "Progress",
    "Source",
    "Splits",
    "TrainLoader",
    "augmentation",
    "batches_per_epoch",
    "changed_since",
    "changed_splits",
    "channel_statistics",
    "fingerprint",
    "fingerprints",
    "imbalance",
    "is_grey",
    "names_alike",
    "nearly_black",
    "open_source",
    "padded_bytes",
    "place_of",
    "prepare",
    "repeated_pictures",
    "some_names",
    "test_origin",
    "superclasses",
]
