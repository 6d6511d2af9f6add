"""Which row is the control of which, and how to make one that is missing."""

import shlex
from pathlib import Path

import pytest
from made_up_runs import ALONE, write_run, write_seeds

from codistill.errors import UserError
from codistill.recipe import load_config
from codistill.report.compare import Block, compare
from codistill.report.controls import check_reference, control, missing, reference, role


def only_block(runs: list[Path]) -> Block:
    (block,) = compare(runs).blocks
    return block


def passes(number: float) -> dict[str, object]:
    return {"forward_passes": {"a": number, "b": number}}


def test_the_control_is_the_same_students_alone_with_the_same_tasks(tmp_path: Path) -> None:
    taught = write_run(tmp_path / "taught", 3, 3)
    plain = write_run(tmp_path / "plain", 1, 1, method=ALONE, tasks=[[], []])
    alone = write_run(tmp_path / "alone", 2, 2, method=ALONE)
    block = only_block([taught, plain, alone])
    found = control(block.rows[0], block)
    assert found is not None
    assert found.name == "alone"
    assert [role(row, block) for row in block.rows] == ["", "alone, same epochs", "alone, same epochs"]
    assert [reference(row, block) is None for row in block.rows] == [False, True, True]


def test_a_row_is_compared_with_the_one_that_is_named(tmp_path: Path) -> None:
    block = only_block([write_run(tmp_path / "x", 1, 1), write_run(tmp_path / "y", 1, 1, method=ALONE, tasks=[[], []])])
    assert [getattr(reference(row, block, "x"), "name", None) for row in block.rows] == [None, "x"]
    with pytest.raises(UserError, match=r"Unknown row 'z'\. Choices: x, y"):
        check_reference("z", block.rows)


@pytest.mark.parametrize(
    ("epochs", "what"),
    [(20, "alone, same compute as taught"), (19, "alone, same compute as taught"), (30, "alone, 30 epochs")],
)
def test_students_alone_for_as_many_forward_passes_have_the_same_compute(
    tmp_path: Path, epochs: int, what: str
) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1, passes(4))]
    runs.append(write_run(tmp_path / "alone", 1, 1, passes(2), method=ALONE))
    runs.append(write_run(tmp_path / "long", 1, 1, passes(2), method=ALONE, epochs=epochs))
    block = only_block(runs)
    assert role(block.rows[2], block) == what
    found = control(block.rows[0], block)
    assert found is not None
    assert found.name == "alone", "on the same epochs is the first choice"
    assert bool(missing(block)) == (epochs == 30)


def test_equal_training_seconds_are_the_same_compute_too(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1, {"training_seconds": 100.0})]
    runs.append(write_run(tmp_path / "long", 1, 1, {"training_seconds": 95.0}, method=ALONE, epochs=17))
    block = only_block(runs)
    assert role(block.rows[1], block) == "alone, same compute as taught"
    assert control(block.rows[0], block) == block.rows[1], "the only one there is"


def test_seconds_of_the_processor_count_before_those_by_the_wall(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1, {"training_seconds": 300.0, "processor_seconds": 100.0})]
    long = {"training_seconds": 95.0, "processor_seconds": 99.0}
    runs.append(write_run(tmp_path / "long", 1, 1, long, method=ALONE, epochs=17))
    assert role(only_block(runs).rows[1], only_block(runs)) == "alone, same compute as taught"


def test_the_command_for_a_missing_control_can_be_read_and_makes_it(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path / "my runs", "taught", [1, 2], weights={"a/peers_kl": 0.5})
    (line,) = missing(only_block(runs))
    assert line.startswith("No control of 'taught' (alone, same epochs): for seed in 0 1; do codistill train ")
    words = shlex.split(line.partition("codistill train ")[2].removesuffix("; done").replace("$seed", "1"))
    *keys, run = words[1:]
    assert run == f"run={tmp_path / 'my runs'}/taught_alone-seed1"
    config = load_config(Path(words[0]), keys)
    assert (config.method.name, config.seed, config.epochs, config.weights) == ("independent", 1, 10, {})


def test_the_command_for_as_much_compute_names_the_epochs(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "taught", 1, 1, passes(5)),
        write_run(tmp_path / "alone", 1, 1, passes(4), method=ALONE),
    ]
    (line,) = missing(only_block(runs))
    assert "(alone, same compute: 1.25 x)" in line
    assert " epochs=13 " in line


def test_nothing_is_missing_where_teaching_costs_next_to_nothing(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "taught", 1, 1, passes(4)),
        write_run(tmp_path / "alone", 1, 1, passes(4), method=ALONE),
    ]
    assert missing(only_block(runs)) == []
