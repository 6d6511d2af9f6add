"""Which row is the control of which, and how to make one that is missing."""

import shlex
from pathlib import Path

import pytest
from made_up_runs import ALONE, write_run, write_seeds

from codistill.config.recipe import load_config
from codistill.errors import UserError
from codistill.evaluation.compare.controls import (
    PLAIN,
    controls_of,
    find_row,
    missing,
    references,
    role,
    without_teaching,
)
from codistill.evaluation.compare.rows import Block, compare


def only_block(runs: list[Path]) -> Block:
    (block,) = compare(runs).blocks
    return block


def plain(folder: Path, accuracy: float = 1.0, summary: dict[str, object] | None = None, **changes: object) -> Path:
    """A run with neither teaching nor tasks."""
    return write_run(folder, accuracy, accuracy, summary, **{"method": ALONE, "tasks": [[], []], **changes})


def labels(block: Block, row: int = 0) -> dict[str, str]:
    """The controls of a row, and what each is."""
    return {own.row.name: own.label for own in references(block.rows[row], block)}


def passes(number: float) -> dict[str, object]:
    return {"forward_passes": {"a": number, "b": number}}


def test_a_row_has_two_controls_without_teaching_and_plain_at_equal_compute(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 3, 3, passes(1.25), epochs=20)]
    runs.append(write_run(tmp_path / "alone", 2, 2, passes(1.25), method=ALONE, epochs=20))
    runs.append(plain(tmp_path / "plain", 4, passes(1), epochs=25))
    block = only_block(runs)
    assert labels(block) == {"alone": "without teaching", "plain": "plain, at equal compute"}
    assert [role(row, block) for row in block.rows] == ["", "without teaching", "plain, at equal compute"]
    assert labels(block, 1) == {"plain": "plain, at equal compute"}, "what the task adds"
    assert labels(block, 2) == {}
    assert missing(block) == []


def test_without_tasks_one_run_is_both_controls(tmp_path: Path) -> None:
    block = only_block(
        [write_run(tmp_path / "dml", 3, 3, passes(1), tasks=[[], []]), plain(tmp_path / "x", 1, passes(1))]
    )
    (one,) = references(block.rows[0], block)
    assert one.kinds == ("without teaching", "plain")
    assert one.label == "plain, at equal compute"
    assert missing(block) == []


def test_plain_training_on_the_same_epochs_is_not_said_to_have_equal_compute(tmp_path: Path) -> None:
    block = only_block([write_run(tmp_path / "taught", 3, 3, passes(1.25)), plain(tmp_path / "plain", 1, passes(1))])
    assert labels(block) == {"plain": "plain, same epochs"}
    ((_, _), (text, command)) = missing(block)
    assert text == "No control of 'taught' (plain, at equal compute: 13 epochs)"
    assert " tasks=none epochs=13 " in command


def test_plain_training_of_one_epoch_is_told_in_the_singular(tmp_path: Path) -> None:
    taught = write_run(tmp_path / "taught", 3, 3, passes(1), epochs=1, tasks=[[], []])
    assert missing(only_block([taught]))[0][0] == "No control of 'taught' (plain, at equal compute: 1 epoch)"


def test_plain_training_for_the_epochs_that_were_suggested_is_at_equal_compute_however_few_they_are(
    tmp_path: Path,
) -> None:
    """Of two epochs of 1.25 passes 2.5 plain ones are as much: the nearest is a fifth more."""
    runs = [write_run(tmp_path / "taught", 3, 3, passes(1.25), epochs=2)]
    assert " epochs=3 " in missing(only_block(runs))[1][1]
    block = only_block([*runs, plain(tmp_path / "plain", 1, passes(1), epochs=3)])
    assert labels(block) == {"plain": "plain, at equal compute"}
    assert len(missing(block)) == 1


def test_plain_training_at_equal_compute_is_a_control_also_where_others_trained_as_long(tmp_path: Path) -> None:
    """Of a sweep at equal compute: rows without tasks for 25 epochs, with one for 20."""
    runs = [write_run(tmp_path / "task", 3, 3, passes(1.25), epochs=20)]
    runs.append(write_run(tmp_path / "none", 3, 3, passes(1), epochs=25, tasks=[[], []]))
    runs.append(plain(tmp_path / "plain", 1, passes(1), epochs=25))
    blocks = compare(runs).blocks
    assert [[row.name for row in block.rows] for block in blocks] == [["task", "plain"], ["none", "plain"]]
    assert [labels(block) for block in blocks] == 2 * [{"plain": "plain, at equal compute"}]


def test_runs_that_minutes_planned_have_controls_of_equal_compute(tmp_path: Path) -> None:
    def plans(epochs: int) -> dict[str, object]:
        return {"epochs": epochs, "replanned": [{"until_step": 20, "epochs": 3 * epochs}]}

    runs = [write_run(tmp_path / "taught", 3, 3, passes(1.25), **plans(20))]
    (_, (_, command)) = missing(only_block(runs))
    assert " epochs=25 'replanned=[]' " in command
    words = shlex.split(command)
    assert load_config(Path(words[2]), words[3:-1]).replanned == []
    runs.append(plain(tmp_path / "plain", 1, passes(1), **plans(24)))
    assert labels(only_block(runs)) == {"plain": "plain, at equal compute"}


def test_a_row_is_compared_with_the_one_that_is_named(tmp_path: Path) -> None:
    block = only_block([write_run(tmp_path / "x", 1, 1), write_run(tmp_path / "y", 1, 1, method=ALONE, tasks=[[], []])])
    x = find_row("x", block.rows)
    assert [[own.row.name for own in references(row, block, x)] for row in block.rows] == [[], ["x"]]
    with pytest.raises(UserError, match=r"Unknown row 'z'\. Choices: x, y"):
        find_row("z", block.rows)


@pytest.mark.parametrize(
    ("epochs", "what"),
    [(40, "plain, at equal compute"), (38, "plain, at equal compute"), (60, "plain, 60 epochs")],
)
def test_as_many_forward_passes_are_equal_compute(tmp_path: Path, epochs: int, what: str) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1, passes(4)), write_run(tmp_path / "alone", 1, 1, method=ALONE)]
    block = only_block([*runs, plain(tmp_path / "long", 1, passes(1), epochs=epochs)])
    assert role(block.rows[2], block) == what
    assert labels(block) == {"alone": "without teaching", "long": what}
    assert bool(missing(block)) == (epochs == 60)


def test_equal_training_seconds_are_equal_compute_too(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1, {"training_seconds": 100.0})]
    runs.append(plain(tmp_path / "long", 1, {"training_seconds": 95.0}, epochs=17))
    assert labels(only_block(runs)) == {"long": "plain, at equal compute"}


def test_where_forward_passes_are_not_known_seconds_say_how_long_plain_training_should_be(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1, {"training_seconds": 100.0})]
    assert missing(only_block(runs))[1][0] == "No control of 'taught' (plain, same epochs; compute is not known)"
    runs.append(plain(tmp_path / "plain", 1, {"training_seconds": 50.0}))
    assert " epochs=20 " in missing(only_block(runs))[1][1]


def test_seconds_of_the_processor_count_before_those_by_the_wall(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 1, 1, {"training_seconds": 300.0, "processor_seconds": 100.0})]
    runs.append(plain(tmp_path / "long", 1, {"training_seconds": 95.0, "processor_seconds": 99.0}, epochs=17))
    assert labels(only_block(runs)) == {"long": "plain, at equal compute"}


def test_the_command_for_a_missing_control_can_be_read_and_makes_it(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path / "my runs", "taught", [1, 2], weights={"a/peers_kl": 0.5})
    ((text, line), _) = missing(only_block(runs))
    assert text == "No control of 'taught' (without teaching)"
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
    assert {row.name: (without_teaching(row, block) or row).name for row in block.rows[2:]} == {
        "taught": "alone",
        "light": "light_alone",
    }
    assert controls_of(compare(runs)) == {runs[2]: runs[0], runs[3]: runs[1]}
    assert controls_of(compare([runs[0], runs[3]])) == {}


def test_the_command_for_a_control_keeps_the_weights_of_losses_that_it_has(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "light", 1, 1, weights={"*": 2.0, "*/rotation": 0.1, "*/peers_kl": {"weight": 1, "over": 0}}
    )
    found = [shlex.split(command.partition("codistill train ")[2]) for _, command in missing(only_block([run]))]
    weights = [load_config(Path(words[0]), words[1:-1]).weights for words in found]
    assert weights == [{"*": 2.0, "*/rotation": 0.1}, {"*": 2.0}], "plain training has no task that they could weigh"


def test_a_control_in_the_same_order_of_images_comes_before_others(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "shuffled", 1, 1, method=ALONE, order="shuffled"),
        write_run(tmp_path / "balanced", 2, 2, method=ALONE, order="balanced"),
        write_run(tmp_path / "taught", 3, 3, order="balanced"),
        write_run(tmp_path / "pairs", 3, 3, order="class_pairs"),
    ]
    block = only_block(runs)
    assert [(without_teaching(row, block) or row).name for row in block.rows[2:]] == ["balanced", "shuffled"]


def test_one_command_makes_the_control_of_all_rows_that_want_it_with_all_their_seeds(tmp_path: Path) -> None:
    runs = [
        *write_seeds(tmp_path, "dml", [1, 2]),
        write_run(tmp_path / "hot-seed2", 1, 1, seed=2, method={"name": "ffl"}),
    ]
    (text, command), _ = missing(only_block(runs))
    assert text == "No control of 'dml', 'hot' (without teaching)"
    assert command.startswith("for seed in 0 1 2; do ")


def test_plain_training_stands_in_for_the_control_without_teaching_where_there_is_none(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "taught", 3, 3), plain(tmp_path / "plain")]
    block = only_block(runs)
    assert without_teaching(block.rows[0], block) is None
    assert controls_of(compare(runs)) == controls_of(compare(runs), PLAIN) == {runs[0]: runs[1]}
    runs.append(write_run(tmp_path / "long", 2, 2, method=ALONE, epochs=20))
    assert controls_of(compare(runs)) == {runs[0]: runs[2]}, "one with the tasks comes first, even if it trained longer"
    assert controls_of(compare(runs), PLAIN) == {runs[0]: runs[1]}
    other = plain(tmp_path / "other", weights={"*/ce": 2.0})
    assert controls_of(compare([runs[0], other])) == {}, "its cross-entropy weighs something else"


def test_a_control_has_a_seed_in_common_or_is_missing(tmp_path: Path) -> None:
    taught = write_run(tmp_path / "taught", 2, 2, seed=3)
    alone = write_run(tmp_path / "alone", 1, 1, method=ALONE)
    ((text, command), _) = missing(only_block([taught, alone]))
    assert text == "No control of 'taught' (without teaching)"
    assert " seed=3 " in command
    same_seed = write_run(tmp_path / "other", 1, 1, method=ALONE, order="balanced", seed=3)
    assert controls_of(compare([taught, alone, same_seed])) == {taught: same_seed}
    assert len(missing(only_block([taught, alone, same_seed]))) == 1, "plain training"


def test_plain_training_is_a_control_of_a_run_with_burn_in_whose_students_have_augmentations_of_their_own(
    tmp_path: Path,
) -> None:
    burnt = {"burn_in": 0.5, "augment": {"per_student": True}, "tasks": [[], []]}
    row = write_run(tmp_path / "burnt-seed0", 2.0, 2.0, {"forward_passes": {"a": 1.0, "b": 0.5}}, epochs=12, **burnt)
    *_, (_, command) = missing(only_block([row]))
    words = shlex.split(command)
    assert {"burn_in=0", "augment.per_student=null", "epochs=9", "method=independent"} <= set(words)
    control = plain(tmp_path / "plain-seed0", 1.0, passes(1.0), epochs=9)
    assert labels(only_block([row, control]))["plain"].endswith("plain, at equal compute")
