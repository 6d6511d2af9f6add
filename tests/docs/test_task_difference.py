"""What the page of results says of different tasks."""

import json
import sys
from pathlib import Path

import pytest
from told_runs import write_run

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from task_difference import figures, read_pairs, table  # noqa: E402

ROWS = [
    "independent_rotation_rotation",
    "independent_supcon_supcon",
    "collaborative_rotation_rotation",
    "collaborative_rotation_supcon",
]


def named(folder: Path, names: list[str]) -> list[Path]:
    return [run for name in names for run in sorted(folder.glob(f"{name}-seed*"))]


def write_pair(folder: Path, method: str, first: str, second: str, accuracy: float, seed: int = 0) -> None:
    tasks = ({"name": first}, {"name": second})
    run = folder / f"{method}_{first}_{second}-seed{seed}"
    write_run(run, method, accuracy=accuracy, seed=seed, tasks=tasks, analysed=method == "collaborative")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_pair(tmp_path, "independent", "rotation", "rotation", 60.0)
    write_pair(tmp_path, "independent", "rotation", "rotation", 99.0, seed=1)
    write_pair(tmp_path, "independent", "supcon", "supcon", 50.0)
    write_pair(tmp_path, "collaborative", "rotation", "rotation", 61.0)
    write_pair(tmp_path, "collaborative", "rotation", "supcon", 62.0)
    return tmp_path


def test_a_pairs_gain_is_over_each_student_alone_with_its_own_task_and_the_same_seeds(runs: Path) -> None:
    different, same = read_pairs(named(runs, ROWS))
    assert different.tasks == ("rotation", "supcon")
    assert (different.together, different.alone, different.gain) == (62.0, 55.0, 7.0)
    assert (same.together, same.alone, same.gain) == (61.0, 60.0, 1.0)


def test_a_pair_brings_the_measures_of_its_own_analysis(runs: Path) -> None:
    analysis = json.loads((runs / "collaborative_rotation_supcon-seed0" / "analysis.json").read_text())
    pair = read_pairs(named(runs, ROWS))[0]
    assert pair.cka == analysis["pairs"]["a/b"]["cka"]
    assert f"| {pair.cka:.3f} |" in table([pair])


def test_each_measure_has_a_figure_that_names_every_pair_for_those_who_do_not_see_it(runs: Path) -> None:
    drawn = figures(read_pairs(named(runs, ROWS)))
    assert [figure.name for figure in drawn] == ["tasks_cka", "tasks_effective_rank", "tasks_disagreement"]
    assert all("rotation, supcon" in figure.alt and "+7.00" in figure.alt for figure in drawn)


def test_rows_that_are_not_named_are_left_alone(runs: Path) -> None:
    run = write_run(runs / "no_peers-seed0", tasks=({"name": "rotation"}, {"name": "rotation"}), analysed=True)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("weights: {}", "weights: {'*/peers_kl': 0}"))
    assert len(read_pairs(named(runs, ROWS))) == 2
    with pytest.raises(ValueError, match=r"'no_peers' and 'collaborative_rotation_rotation' are the same pair"):
        read_pairs(named(runs, [*ROWS, "no_peers"]))


def test_a_task_that_nobody_had_alone_is_named(runs: Path) -> None:
    write_pair(runs, "collaborative", "colour", "rotation", 60.0)
    with pytest.raises(ValueError, match="task colour"):
        read_pairs(named(runs, [*ROWS, "collaborative_colour_rotation"]))


def test_a_pair_and_its_control_need_a_seed_in_common(runs: Path) -> None:
    write_pair(runs, "collaborative", "supcon", "supcon", 60.0, seed=5)
    with pytest.raises(ValueError, match="no seed in common with independent_supcon_supcon"):
        read_pairs(named(runs, [*ROWS, "collaborative_supcon_supcon"]))


def test_rows_of_other_epochs_do_not_compete(runs: Path) -> None:
    write_run(runs / "short-seed0", epochs=2, tasks=({"name": "supcon"}, {"name": "supcon"}), analysed=True)
    with pytest.raises(ValueError, match="differ in epochs"):
        read_pairs(named(runs, [*ROWS, "short"]))
