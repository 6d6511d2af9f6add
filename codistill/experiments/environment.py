"""What codistill finds on this machine: its libraries, each of them imported, devices and threads, folders.

No torch at the top: a machine that lacks it, or has one that cannot be imported, is one to be described.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from codistill import __version__
from codistill.errors.libraries import EXTRAS, REQUIRED, Fault, fault, installed_version


class Environment(NamedTuple):
    """Names and values to be shown, and what is wrong."""

    rows: list[tuple[str, str]]
    faults: list[Fault]  # of packages that are needed, or that are installed and cannot be imported

    @property
    def complete(self) -> bool:
        """Whether all that is needed can be imported; what only some runs use may be faulty."""
        return not any(one.package in REQUIRED for one in self.faults)


def describe() -> Environment:
    """Imports every library that there is, which takes seconds."""
    rows = [("codistill", __version__), ("python", platform.python_version())]
    faults: list[Fault] = []
    absent = []
    for package in (*REQUIRED, *(package for packages in EXTRAS.values() for package in packages)):
        release = installed_version(package)
        if release is None and package not in REQUIRED:
            absent.append(package)
            continue
        found = fault(package)
        faults += [found] if found else []
        rows.append((package, ", but ".join(filter(None, [release, found.problem if found else None]))))
    if absent:
        rows.append(("not installed", f"{', '.join(absent)} (only some runs and commands use them)"))
    rows.append(("platform", f"{platform.system()} {platform.release()}, {platform.machine()}"))
    broken = {one.package for one in faults}
    if "torch" not in broken:
        rows += _devices()
    rows.append(("runs", room(Path("runs").absolute())))
    if broken.isdisjoint(REQUIRED):
        rows += _folders()
    return Environment(rows, faults)


def room(folder: Path) -> str:
    """Whether a folder can be written, or made, and how much fits there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        return f"{folder}: NOT writable ({error.strerror})"
    return f"{folder}: writable, {free / 1e9:,.1f} GB free"


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "GPUs", ", ".join(gpus) or "none"
    yield "CPU", f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"


def _folders() -> Iterator[tuple[str, str]]:
    from codistill.data.cache_entry import cache_folder
    from codistill.data.sources.hf_datasets import download_folder

    yield "downloads", room(download_folder())
    yield "cache", room(cache_folder())
