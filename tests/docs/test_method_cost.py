"""What the page of results says of each method's price."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from told_runs import write_run

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from method_cost import figures, read_prices, table, verdict  # noqa: E402


def write_row(folder: Path, name: str, accuracies: list[float], minutes: float, method: str, **given: Any) -> None:
    for seed, accuracy in enumerate(accuracies):
        run = write_run(folder / f"{name}-seed{seed}", method, accuracy=accuracy, seed=seed, tasks=((), ()))
        config = yaml.safe_load((run / "config.yaml").read_text())
        config |= {"data": {"name": "digits", "image_size": 8, "classes": 3}, **given}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(summary | {"processor_seconds": 60 * minutes}))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_row(tmp_path, "long", [60.0, 64.0], 4.0, "independent", epochs=16)
    write_row(tmp_path, "plain", [50.0, 52.0], 1.0, "independent")
    write_row(tmp_path, "dml", [58.0, 59.0, 99.0], 2.0, "dml")
    return tmp_path


def test_a_method_is_held_against_plain_training_for_as_long_seed_by_seed(runs: Path) -> None:
    prices = read_prices(sorted(runs.iterdir()))
    assert [price.name for price in prices] == ["students alone, 4 epochs", "dml", "students alone, 16 epochs"]
    found = verdict(prices[1], prices)
    assert found.points == pytest.approx(((58 - 55) + (59 - 58)) / 2)  # half-way from 1 to 4 minutes in the logarithm
    assert found.interval is not None
    assert found.interval.high - found.points == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2), rel=1e-3)


def test_what_costs_more_than_the_longest_plain_row_is_held_against_that_row(runs: Path) -> None:
    write_row(runs, "dear", [66.0, 66.0], 9.0, "kdcl")
    prices = read_prices(sorted(runs.iterdir()))
    (dear,) = [price for price in prices if price.name == "kdcl"]
    assert verdict(dear, prices).points == pytest.approx((6 + 2) / 2)


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ([70.0, 72.5], "yes"),
        ([58.0, 59.0], "not decided"),
        ([53.0, 59.0], "not decided"),
        ([53.0, 56.2], "no"),
        ([70.0], "not decided"),
    ],
)
def test_the_table_says_whether_a_method_beats_plain_training(
    tmp_path: Path, accuracies: list[float], words: str
) -> None:
    write_row(tmp_path, "plain", [50.0, 53.0], 1.0, "independent")
    write_row(tmp_path, "long", [60.0, 63.0], 4.0, "independent", epochs=16)
    write_row(tmp_path, "dml", accuracies, 2.0, "dml")
    (line,) = [line for line in table(read_prices(sorted(tmp_path.iterdir()))).splitlines() if "dml" in line]
    assert line.endswith(f"| {words} |")


def test_what_costs_less_than_the_shortest_plain_row_is_held_against_that_row(runs: Path) -> None:
    write_row(runs, "cheap", [51.0, 55.0], 0.5, "kdcl")
    prices = read_prices(sorted(runs.iterdir()))
    assert verdict(prices[0], prices[::-1]).points == pytest.approx((1 + 3) / 2)


def test_flops_are_those_of_all_steps_forward_and_backward(runs: Path) -> None:
    short, _, long = read_prices(sorted(runs.iterdir()))
    assert long.teraflops == pytest.approx(4 * short.teraflops)
    # The first convolution of a ResNet-8 on 8 x 8 pixels alone: 2 x 3 x 16 x 9 x 64 FLOPs.
    images = 100 * 4
    assert short.teraflops > 2 * 3 * images * 2 * 3 * 16 * 9 * 64 / 1e12


def test_rows_that_do_not_compete_have_no_common_price(runs: Path) -> None:
    write_row(runs, "bigger", [60.0], 2.0, "dml", batch_size=7)
    with pytest.raises(ValueError, match="differ in batch_size"):
        read_prices(sorted(runs.iterdir()))


def test_rows_that_look_alike_are_not_shown_as_one(runs: Path) -> None:
    write_row(runs, "again", [60.0], 2.0, "dml", weights={"a/ce": 2.0})
    with pytest.raises(ValueError, match="look alike: dml, dml"):
        read_prices(sorted(runs.iterdir()))


def test_a_method_that_trained_for_longer_says_so(runs: Path) -> None:
    write_row(runs, "dml_long", [65.0, 66.0], 4.0, "dml", epochs=16)
    write_row(runs, "kdcl", [60.0], 2.0, "kdcl")
    assert {"dml", "kdcl", "dml, 16 epochs"} < {price.name for price in read_prices(sorted(runs.iterdir()))}


def test_a_task_on_another_part_of_the_batch_than_its_own_says_so(runs: Path) -> None:
    for place, fraction in enumerate((0.25, 1.0)):
        task = {"name": "rotation", "fraction": fraction, "weight": 1.0}
        write_row(runs, f"row{place}", [60.0, 60.0], 3.0, "collaborative", tasks=[[task], [dict(task)]])
    names = {price.name for price in read_prices(sorted(runs.iterdir()))}
    assert {"collaborative (rotation, rotation)", "collaborative (rotation, rotation; fraction 1.0)"} < names


def test_without_plain_training_there_is_nothing_to_hold_a_method_against(tmp_path: Path) -> None:
    write_row(tmp_path, "dml", [60.0], 2.0, "dml")
    with pytest.raises(ValueError, match="No row of 'independent' without tasks"):
        read_prices(sorted(tmp_path.iterdir()))


def test_each_figure_names_every_row_for_those_who_do_not_see_it(runs: Path) -> None:
    drawn = figures(read_prices(sorted(runs.iterdir())))
    assert [figure.name for figure in drawn] == ["cost_minutes", "cost_flops"]
    assert all("dml" in figure.alt and "16 epochs" in figure.alt for figure in drawn)
    assert "2.0, 72.00 %" in drawn[0].alt
