"""What the page of results says of each part of a method."""

import json
import math
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from told_runs import write_run

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from ablation import difference, differences, figures, noise, read_parts, table  # noqa: E402


def write_row(folder: Path, name: str, accuracies: list[float], **given: Any) -> list[Path]:
    runs = []
    for seed, accuracy in enumerate(accuracies):
        run = write_run(folder / f"{name}-seed{seed}", accuracy=accuracy, seed=seed)
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(config | given))
        summary = json.loads((run / "summary.json").read_text())
        summary["validation_accuracy"]["students"] = dict.fromkeys("ab", accuracy / 2)
        (run / "summary.json").write_text(json.dumps(summary))
        runs.append(run)
    return runs


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    usual = {"name": "collaborative", "ramp": 0.27}
    whole = write_row(tmp_path, "whole", [60.0, 64.0], method=usual)
    fewer = write_row(tmp_path, "no_peers", [58.0, 63.0], method=usual, weights={"*/peers_kl": 0.0})
    return [*whole, *fewer, *write_row(tmp_path, "long_ramp", [61.0], method=usual | {"ramp": 0.8})]


def test_noise_is_what_neither_row_nor_seed_explains() -> None:
    rows = [[60.0, 64.0, 59.0], [58.0, 63.0, 60.0]]
    everything = fmean(map(fmean, rows))
    rest = 0.0
    for row in rows:
        for seed, value in enumerate(row):
            rest += (value - fmean(row) - fmean(other[seed] for other in rows) + everything) ** 2
    deviation, freedom = noise([dict(enumerate(row)) for row in rows])
    assert freedom == (2 - 1) * (3 - 1)
    assert deviation == pytest.approx(math.sqrt(rest / freedom))


def test_a_row_with_a_single_seed_says_nothing_of_the_noise() -> None:
    rows = [{0: 60.0, 1: 64.0}, {0: 58.0, 1: 63.0}]
    assert noise([*rows, {0: 99.0}]) == pytest.approx(noise(rows))


def test_without_anything_left_the_noise_is_not_known() -> None:
    assert noise([{0: 60.0}, {0: 61.0}])[1] == 0
    assert difference({0: 61.0}, {0: 60.0}, *noise([{0: 60.0}, {0: 61.0}])) == (1.0, None)


def test_two_rows_are_as_many_standard_errors_apart_as_students_t_allows() -> None:
    found = difference({0: 61.0, 1: 61.0, 7: 0.0}, {0: 60.0, 1: 64.0}, 0.5, 10)
    assert found.mean == -1.0
    assert found.interval is not None
    assert found.interval.high - found.mean == pytest.approx(2.228 * 0.5 * math.sqrt(1 / 2 + 1 / 2), rel=1e-3)


def test_rows_without_a_common_seed_are_not_compared() -> None:
    with pytest.raises(ValueError, match="without a seed in common"):
        difference({0: 60.0}, {1: 60.0}, 0.5, 10)


def test_each_row_is_held_against_the_first_on_test_and_on_validation_images(runs: list[Path]) -> None:
    parts = read_parts(runs)
    assert [found.mean for found in differences(parts, "test")] == [-1.5, 1.0]
    assert [found.mean for found in differences(parts, "validation")] == [-0.75, 0.5]


def test_the_table_says_what_is_otherwise_in_a_row(runs: list[Path]) -> None:
    whole, fewer, long = table(read_parts(runs)).splitlines()[2:]
    assert whole == "| whole |  | 62.00 ± 2.83 |  |  | 2 | 0.2 |"
    assert "| no_peers | weights.*/peers_kl=0.0 | 60.50 ± 3.54 | -1.50 [" in fewer
    assert "| long_ramp | method.ramp=0.8 | 61.00 | +1.00 [" in long


def test_the_figure_names_every_row_for_those_who_do_not_see_it(runs: list[Path]) -> None:
    (figure,) = figures(read_parts(runs))
    assert "no_peers: test -1.50 [" in figure.alt
    assert "validation +0.50 [" in figure.alt


def test_rows_that_do_not_compete_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differ in epochs"):
        read_parts([*runs, *write_row(tmp_path, "short", [50.0], epochs=2)])
