"""Other work on a machine is counted without one's own, and doubted ratios are said to be."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from codistill.experiments.bench.other_work import STAT, OtherWork, disturbs, in_words, usable_cores
from codistill.experiments.bench.ratio import doubts, first_ratio, ratio_in_words

CORES = usable_cores()
FIRST = min(CORES)
A_SECOND = os.sysconf("SC_CLK_TCK")
EVEN = {"median": 1.5, "min": 1.4, "max": 1.6}


def write(stat: Path, busy_seconds: float, core: int = FIRST, idle: int = 100) -> None:
    half = round(busy_seconds * A_SECOND / 2)
    stat.write_text(f"cpu  9 9 9 9 9 9 9 9 0 0\ncpu{core} {half} 0 {half} {idle} 5 0 0 0 0 0\nintr 5 0 0\nctxt 7\n")


def test_other_work_is_what_the_processor_did_without_this_process(tmp_path: Path) -> None:
    stat, clock = tmp_path / "stat", iter([10.0, 14.0])
    write(stat, 3.0)
    other = OtherWork(stat=stat, now=lambda: next(clock))
    before = time.process_time()
    while time.process_time() < before + 0.2:
        pass
    write(stat, 5.2)  # 0.2 seconds of them are ours
    assert other.cores() == pytest.approx(2.0 / 4.0, abs=0.02)


def test_cores_that_this_process_may_not_use_do_not_count(tmp_path: Path) -> None:
    stat, clock = tmp_path / "stat", iter([10.0, 14.0])
    write(stat, 3.0, core=max(CORES) + 1)
    own = stat.read_text().replace(f"cpu{max(CORES) + 1}", f"cpu{FIRST}")
    stat.write_text(stat.read_text() + own)
    other = OtherWork(stat=stat, now=lambda: next(clock))
    write(stat, 50.0, core=max(CORES) + 1)
    stat.write_text(stat.read_text() + own)
    assert other.cores() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("held", [None, 0])
def test_where_the_system_does_not_tell_other_work_is_not_known(held: int | None, tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    if held is not None:
        stat.write_text(f"cpu  0 0 0 0 0 0 0 0 0 0\ncpu{FIRST} 0 0 0 0 0 0 0 0 0 0\n")
    assert OtherWork(stat=stat).cores() is None
    assert not disturbs(None)
    assert in_words(None) == "how busy other processes were is not known on this system"


@pytest.mark.skipif(OtherWork().cores() is None, reason="the system does not tell")
def test_processes_that_are_busy_on_purpose_can_be_left_out() -> None:
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        others, besides = OtherWork(), OtherWork([burner.pid])
        while int(Path(f"/proc/{burner.pid}/stat").read_text().split()[13]) < A_SECOND // 2:
            time.sleep(0.01)
        without, all_others = besides.cores(), others.cores()
    finally:
        burner.kill()
        burner.wait()
    assert STAT.exists()
    assert without is not None
    assert all_others is not None
    assert without < all_others


def test_more_than_a_tenth_of_the_cores_disturbs() -> None:
    assert [disturbs(share * len(CORES)) for share in (0.0, 0.09, 0.11, 1.0)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("clock", "others", "expected"),
    [
        (EVEN, [0.0, 0.0], []),
        (EVEN, [None, None], []),
        (EVEN, [0.0, 0.6 * len(CORES)], [in_words(0.6 * len(CORES))]),
        ({"median": 3.0, "min": 1.5, "max": 9.07}, [0.0, 0.0], ["rounds differ, from 1.50x to 9.07x"]),
    ],
)
def test_a_ratio_beside_other_work_or_of_uneven_rounds_is_doubted(
    clock: dict[str, float], others: Sequence[float | None], expected: list[str]
) -> None:
    assert doubts(clock, others) == expected


def test_the_ratio_of_processor_time_comes_first_where_the_clocks_is_another() -> None:
    much = {"median": 9.07, "min": 5.0, "max": 12.0}
    assert first_ratio(much, EVEN, on_cpu=True) == "cpu_ratio"
    assert first_ratio({**EVEN, "median": 1.6}, EVEN, on_cpu=True) == "ratio"
    assert first_ratio(much, EVEN, on_cpu=False) == "ratio"  # a GPU's work is no processor time
    found = {"ratio": much, "cpu_ratio": EVEN, "loss_difference": 2e-7}
    in_time, by_clock = (
        "1.50x the plain loop in processor time; 9.07x by",
        "9.07x the plain loop by the clock (rounds from",
    )
    assert ratio_in_words({**found, "first_ratio": "cpu_ratio"}).startswith(in_time)
    assert ratio_in_words({**found, "first_ratio": "ratio"}).startswith(by_clock)
