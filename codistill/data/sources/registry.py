"""The sources by name, and which one a name means."""

from collections.abc import Callable, Sequence

from codistill.data.sources.base import Progress, Source, WithoutSplits
from codistill.data.sources.digits import Digits
from codistill.data.sources.hf_datasets import HubData
from codistill.data.sources.synthetic import Synthetic
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
