"""What else a machine computes while something is measured on it. No torch.

The system counts the time that the processor worked (``/proc/stat``, which Linux has); less this process's own time,
that is the time of others. Time that a virtual machine's host took away counts, too.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

STAT = Path("/proc/stat")
TOO_MUCH = 0.1  # of the cores: more of other work disturbs what the clock tells


class OtherWork:
    """Counts from when it is made. besides: ids of processes whose work is not to be counted."""

    def __init__(
        self, besides: Sequence[int] = (), *, stat: Path = STAT, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._besides, self._stat, self._now = besides, stat, now
        self._began = self._read()

    def cores(self) -> float | None:
        """How many cores others kept busy since, on average. None where the system does not tell."""
        (wall, busy, own), (wall_before, busy_before, own_before) = self._read(), self._began
        if busy is None or busy_before is None:
            return None
        others = (busy - busy_before) - (own - own_before)
        return max(0.0, others) / max(1e-9, wall - wall_before)

    def _read(self) -> tuple[float, float | None, float]:
        own = time.process_time() + sum(map(_seconds_of, self._besides))
        return self._now(), _busy_seconds(self._stat), own


def usable_cores() -> set[int]:
    """The numbers of those that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def disturbs(cores: float | None) -> bool:
    """Whether so many cores of other work are too many for what a clock tells."""
    return cores is not None and cores > TOO_MUCH * len(usable_cores())


def in_words(cores: float | None) -> str:
    """``other processes kept 1.3 of 2 cores busy``."""
    if cores is None:
        return "how busy other processes were is not known on this system"
    return f"other processes kept {cores:.1f} of {len(usable_cores())} cores busy"


def _busy_seconds(stat: Path) -> float | None:
    """Of all processes, since the system began, on the cores that this one may use."""
    mine, idle_too, busy = usable_cores(), 0, 0
    try:
        lines = stat.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        name, *counts = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name.removeprefix("cpu")) in mine:
            user, nice, system, idle, waiting, interrupts, soft_interrupts, stolen = map(int, counts[:8])
            busy += user + nice + system + interrupts + soft_interrupts + stolen
            idle_too += idle + waiting
    # Some sandboxes have the file, and zeros in it.
    return busy / os.sysconf("SC_CLK_TCK") if busy or idle_too else None


def _seconds_of(process: int) -> float:
    """Processor time of another process. 0 where there is none, or the system does not tell."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
