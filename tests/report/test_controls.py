"""Which row is the control of which, and how to make one that is missing."""

import shlex
from pathlib import Path

import pytest
from made_up_runs import ALONE, write_run, write_seeds

from codistill.errors import UserError
from codistill.recipe import load_config
from codistill.report.compare import Block, compare
from codistill.report.controls import check_reference, control, controls_of, missing, reference, role, same_tasks


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
    ((text, line),) = missing(only_block(runs))
    assert text == "No control of 'taught' (alone, same epochs)"
    assert line.startswith("for seed in 0 1; do codistill train ")
    words = shlex.split(line.partition("codistill train ")[2].removesuffix("; done").replace("$seed", "1"))
    *keys, run = words[1:]
    assert run == f"run={tmp_path / 'my runs'}/taught_alone-seed1"
    config = load_config(Path(words[0]), keys)
    assert (config.method.name, config.seed, config.epochs, config.weights) == ("independent", 1, 10, {})


def test_a_control_weighs_its_losses_as_the_row_does(tmp_path: Path) -> None:
    light = {"*/rotation": 0.1}
    runs = [
        write_run(tmp_path / "alone", 1, 1, method=ALONE),
        write_run(tmp_path / "light_alone", 2, 2, method=ALONE, weights=light),
        write_run(tmp_path / "taught", 3, 3, weights={"*/peers_kl": 2.0}),
        write_run(tmp_path / "light", 4, 4, weights={**light, "a/peers_kl": 2.0}),
    ]
    block = only_block(runs)
    assert {row.name: (control(row, block) or row).name for row in block.rows[2:]} == {
        "taught": "alone",
        "light": "light_alone",
    }
    assert controls_of(compare(runs)) == {runs[2]: runs[0], runs[3]: runs[1]}
    assert controls_of(compare([runs[0], runs[3]])) == {}


def test_the_command_for_a_control_keeps_the_weights_of_losses_that_it_has(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "light", 1, 1, weights={"*": 2.0, "*/rotation": 0.1, "*/peers_kl": {"weight": 1, "over": 0}}
    )
    ((_, command),) = missing(only_block([run]))
    words = shlex.split(command.partition("codistill train ")[2])
    assert load_config(Path(words[0]), words[1:-1]).weights == {"*": 2.0, "*/rotation": 0.1}


def test_a_control_in_the_same_order_of_images_comes_before_others(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "shuffled", 1, 1, method=ALONE, order="shuffled"),
        write_run(tmp_path / "balanced", 2, 2, method=ALONE, order="balanced"),
        write_run(tmp_path / "taught", 3, 3, order="balanced"),
        write_run(tmp_path / "pairs", 3, 3, order="class_pairs"),
    ]
    block = only_block(runs)
    assert [(control(row, block) or row).name for row in block.rows[2:]] == ["balanced", "shuffled"]


def test_the_command_for_as_much_compute_names_the_epochs(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "taught", 1, 1, passes(5)),
        write_run(tmp_path / "alone", 1, 1, passes(4), method=ALONE),
    ]
    ((text, command),) = missing(only_block(runs))
    assert "(alone, same compute: 1.25 x)" in text
    assert " epochs=13 " in command


def test_a_control_without_tasks_is_one_only_for_whoever_asks_for_it_and_has_no_other(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 3, 3), write_run(tmp_path / "plain", 1, 1, method=ALONE, tasks=[[], []])]
    block = only_block(runs)
    assert control(block.rows[0], block) is None
    assert control(block.rows[0], block, without_tasks=True) == block.rows[1]
    assert not same_tasks(*block.rows)
    runs.append(write_run(tmp_path / "long", 2, 2, method=ALONE, epochs=20))
    assert controls_of(compare(runs)) == {runs[0]: runs[2]}, "one with the tasks comes first, even if it trained longer"
    other = write_run(tmp_path / "other", 1, 1, method=ALONE, tasks=[[], []], weights={"*/ce": 2.0})
    assert controls_of(compare([runs[0], other])) == {}, "its cross-entropy weighs something else"


def test_a_control_has_a_seed_in_common_or_is_missing(tmp_path: Path) -> None:
    taught = write_run(tmp_path / "taught", 2, 2, seed=3)
    alone = write_run(tmp_path / "alone", 1, 1, method=ALONE)
    ((text, command),) = missing(only_block([taught, alone]))
    assert text == "No control of 'taught' (alone, same epochs)"
    assert " seed=3 " in command
    same_seed = write_run(tmp_path / "other", 1, 1, method=ALONE, order="balanced", seed=3)
    assert controls_of(compare([taught, alone, same_seed])) == {taught: same_seed}
    assert missing(only_block([taught, alone, same_seed])) == []


def test_nothing_is_missing_where_teaching_costs_next_to_nothing(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "taught", 1, 1, passes(4)),
        write_run(tmp_path / "alone", 1, 1, passes(4), method=ALONE),
    ]
    assert missing(only_block(runs)) == []
