"""What the page of results says of short and long trainings."""

import sys
from pathlib import Path

from told_runs import write_run

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from budget_table import read_budgets, table  # noqa: E402


def test_a_line_holds_each_row_against_the_network_alone_of_its_budget(tmp_path: Path) -> None:
    for seed, gain in ((0, 1.0), (1, 3.0)):
        write_run(tmp_path / f"alone_20-seed{seed}", "independent", accuracy=50.0, seed=seed, students=("a",))
        write_run(tmp_path / f"burn_in_20-seed{seed}", accuracy=50.0 + gain, seed=seed)
    write_run(tmp_path / "alone_80-seed0", "independent", accuracy=60.0, students=("a",))
    found = read_budgets(sorted(tmp_path.iterdir()))
    assert found["burn_in", 20] == {0: 51.0, 1: 53.0}
    header, _, first, second = [line for line in table(found).splitlines() if line.startswith("|")]
    assert "alone" in header
    assert "burn in" in header
    assert first.split("|")[1:4] == [" 20 ", " 50.00 ± 0.00 (2) ", " 52.00 ± 1.41 (2): +2.00 [-10.71, 14.71] "]
    assert second.split("|")[1:4] == [" 80 ", " 60.00 (1) ", "  "]
