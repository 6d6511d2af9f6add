"""One network alone against with peers: what is compared, in what turns, and what the verdict says of finished runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

from codistill import UserError
from codistill.cli.main import app
from codistill.config.schema import make_config
from codistill.experiments.versus import ALONE, TOGETHER, Pace, Verdict, alone, together, verdict, versus
from codistill.storage.run_files import read_config
from codistill.training.auto import BURN_IN
from codistill.training.signals import StopRequest

QUICK = Pace(turns=2, shortest_turn=4.0, least=1.0, verdict=1.0)
SMALL: dict[str, Any] = {"data": {"name": "digits", "per_class": 12}, "batch_size": 32}
MINUTES = 0.3


def test_alone_is_the_first_student_trained_plainly_with_the_same_recipe() -> None:
    given = {**SMALL, "students": ["resnet20", "resnet8"], "method": "dml", "tasks": "rotation", "epochs": 7, "seed": 3}
    config = alone(make_config(given))
    assert config.students == {"resnet20": "resnet20"}
    assert (config.method.name, config.tasks, config.peers) == ("independent", [[]], None)
    assert (config.epochs, config.seed, config.batch_size, config.data.per_class) == (7, 3, 32, 12)


def test_of_weights_and_rates_alone_keeps_those_that_it_has_losses_for() -> None:
    weights = {"*/peers_kl": 0.5, "*ce": 0.5, "a/ce": 0.7, "b/ce": 0.1}
    factors = {"a": 0.5, "b": 0.1}
    given = {"students": {"a": "resnet8", "b": "resnet8"}, "weights": weights, "optimizer": {"lr_factors": factors}}
    config = alone(make_config(given))
    assert config.weights == {"a/ce": 0.7}  # the last match wins: what it overrules would be refused
    assert config.optimizer.lr_factors == {"a": 0.5}


def test_together_has_peers_however_short_training_is() -> None:
    config = together(make_config({"students": "resnet20"}))
    assert list(config.students) == ["resnet20_1", "resnet20_2"]
    assert (config.method.name, config.tasks, config.peers) == ("collaborative", "auto", None)
    assert together(make_config({"method": {"name": "dml", "temperature": 3}})).method.settings["temperature"] == 3


def test_together_begins_with_burn_in_where_a_run_with_peers_would() -> None:
    pretrained = {"name": "timm/resnet10t", "pretrained": True}
    assert together(make_config({"students": "resnet20"})).burn_in == BURN_IN
    assert together(make_config({"students": [pretrained, pretrained]})).burn_in == 0
    assert together(make_config({"optimizer": {"lr_factors": {"resnet8_2": 0.5}}})).burn_in == 0
    assert together(make_config({"students": ["resnet8", "resnet20"]})).burn_in == 0
    assert together(make_config({"burn_in": 0.2})).burn_in == 0.2


@pytest.mark.parametrize(
    ("given", "minutes", "message"),
    [
        ({"students": ["resnet8"]}, 30.0, r"'resnet8' is the only student\. Give a model, or two in a list\."),
        ({"poison": {"student": "resnet8_2", "random_labels": 0.5}}, 30.0, "healthy students: leave poison out"),
        ({"data": {"validation": 0}}, 30.0, r"set data\.validation above 0"),
        ({"method": "independent"}, 30.0, "With method=independent students do not learn from each other"),
        ({}, 0.0, r"minutes=0 should be a finite number above 0\."),
        ({}, float("inf"), "should be a finite number above 0"),
        ({}, 0.5, r"minutes=0\.5 leave \d+ s for each of 2 runs\. Give at least 1\.2\."),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    given: dict[str, Any], minutes: float, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        versus(given, tmp_path / "out", minutes=minutes)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty, and holds no comparison"):
        versus(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs=3"], "leave epochs= and run= out"),
        (["run=runs/a"], "leave epochs= and run= out"),
        (["students=[resnet8]"], "'resnet8' is the only student"),
    ],
)
def test_the_command_refuses_keys_that_it_sets_itself(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["versus", *words], env={"COLUMNS": "200"})
    assert done.exit_code != 0
    assert message in done.output + str(done.exception)
    assert not list(tmp_path.iterdir())


def finished(
    folder: Path, test: dict[str, float], validation: dict[str, float], right: list[int] | None = None, seed: int = 0
) -> Path:
    """A run of these accuracies. right: of its answers to ten test images, how many each student has right."""
    (folder / "outputs").mkdir(parents=True)
    config = {"students": dict.fromkeys(test, "resnet8"), "tasks": [[] for _ in test], "method": {"name": "dml"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "seed": seed}))
    ensemble = {"teacher": None, "ensemble": None}
    summary = {
        "test_accuracy": {"students": test, **ensemble},
        "validation_accuracy": {"students": validation, **ensemble},
        "parameters": {"students": dict.fromkeys(test, 1), "training_only": 0},
        "seconds": 1.0,
        "seed": seed,
        "sha256": dict.fromkeys(test, "0"),
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    if right is not None:
        answers = {name: (np.arange(10) >= count).astype(int) for name, count in zip(test, right, strict=True)}
        logits = {name: np.eye(2, dtype=np.float32)[own] for name, own in answers.items()}
        arrays = {f"{kind}/{name}": own for name, own in logits.items() for kind in ("logits", "embeddings")}
        about = {"students": list(test), "teacher": None, "class_names": ["x", "y"], "sha256": summary["sha256"]}
        labels = np.zeros(10, dtype=np.int64)
        metadata = {key: json.dumps(value) for key, value in about.items()}
        save_file({"labels": labels, **arrays}, folder / "outputs" / "test.safetensors", metadata)
    return folder


def pair(folder: Path, here: float, there: float, right: tuple[int, int] | None = None, seed: int = 0) -> list[Path]:
    """Runs of one student alone, and of two of whom validation images choose the second."""
    run = finished(folder / f"alone{seed}", {"a": here}, {"a": here}, [right[0]] if right else None, seed)
    both = [10 - right[1], right[1]] if right else None
    other = finished(folder / f"both{seed}", {"a": 99.0, "b": there}, {"a": 1.0, "b": there}, both, seed)
    return [run, other]


def test_the_student_that_validation_images_choose_counts_and_not_the_best_on_test_images(tmp_path: Path) -> None:
    here, there = pair(tmp_path, 50.0, 60.0, (5, 6))
    found = verdict([here], [there])
    assert (found.alone, found.together, found.difference) == ([50.0], [60.0], 10.0)


@pytest.mark.parametrize(
    ("right", "winner", "kept", "words"),
    [
        ((1, 9), TOGETHER, ("both0", "b"), "Training together is better here: 90.00 % together, 10.00 % alone, +80.00"),
        ((9, 1), ALONE, ("alone0", "a"), "Training alone is better here: 10.00 % together, 90.00 % alone, -80.00"),
        (
            (5, 6),
            None,
            ("both0", "b"),
            "No significant difference: 60.00 % together, 50.00 % alone, +10.00 points",
        ),
        (
            (6, 5),
            None,
            ("alone0", "a"),
            "No significant difference: 50.00 % together, 60.00 % alone, -10.00 points",
        ),
    ],
)
def test_a_verdict_of_one_seed_is_over_its_test_images_and_keeps_a_student_of_the_winner(
    right: tuple[int, int], winner: str | None, kept: tuple[str, str], words: str, tmp_path: Path
) -> None:
    here, there = pair(tmp_path, 10.0 * right[0], 10.0 * right[1], right)
    found = verdict([here], [there])
    assert found.winner == winner
    assert (found.run.name, found.student) == kept
    assert found.file == tmp_path / kept[0] / "students" / f"{kept[1]}.safetensors"
    assert str(found).startswith(words)
    assert " points (95 % CI " in str(found)
    assert str(found).endswith(", 10 test images, one seed).")


def test_a_verdict_of_several_seeds_is_over_these(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, 50.0 + seed, 60.0 + 1.1 * seed, seed=seed) for seed in range(3)]
    found = verdict([one for one, _ in pairs], [other for _, other in pairs])
    assert found.difference == pytest.approx(10.1)
    assert found.winner == TOGETHER
    assert "3 seeds)." in str(found)
    assert found.run.name == "both2"  # the best on validation images of those that won
    close = [pair(tmp_path / "close", 50.0, 50.0 + (-1) ** seed, seed=seed) for seed in range(3)]
    assert verdict([one for one, _ in close], [other for _, other in close]).winner is None


def test_a_run_that_kept_no_predictions_has_a_verdict_without_an_interval(tmp_path: Path) -> None:
    here, there = pair(tmp_path, 50.0, 60.0)
    found = verdict([here], [there])
    assert (found.interval, found.winner) == (None, None)
    assert str(found) == "No significant difference: 60.00 % together, 50.00 % alone, +10.00 points."


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict, list[str], float]:
    """A comparison that was stopped after its first turn and went on: folder, verdict, notes, seconds at the stop."""
    out = tmp_path_factory.mktemp("versus") / "a b"
    stop, notes = StopRequest(lambda text: None), list[str]()

    def note(text: str) -> None:
        notes.append(text)
        if text.startswith(("alone-", "together-")):
            stop.number = 2  # as Ctrl-C does

    assert versus(SMALL, out, minutes=MINUTES, pace=QUICK, note=note, stop=stop) is None
    used = sum(json.loads((out / "versus.json").read_text())["seconds"].values())
    found = versus(SMALL, out, minutes=MINUTES, pace=QUICK, note=notes.append)
    assert found is not None
    return out, found, notes, used


def test_a_comparison_that_was_stopped_goes_on_and_ends_with_a_verdict(
    compared: tuple[Path, Verdict, list[str], float],
) -> None:
    out, found, notes, used = compared
    one, other = read_config(out / "alone-seed0"), read_config(out / "together-seed0")
    assert (list(one["students"]), one["method"]["name"], one["tasks"]) == (["resnet8_1"], "independent", [[]])
    assert (list(other["students"]), other["method"]["name"]) == (["resnet8_1", "resnet8_2"], "collaborative")
    assert notes[0].startswith("Each of 2 runs gets ")
    assert len([text for text in notes if "finished. Test accuracy: resnet8_1" in text]) == 2
    ledger = json.loads((out / "versus.json").read_text())
    assert sum(ledger["seconds"].values()) > used > 0  # what was trained before the stop counts
    assert found.file.exists()
    assert 0 < found.together[0] <= 100


def test_a_finished_comparison_gives_its_verdict_again_without_training(
    compared: tuple[Path, Verdict, list[str], float],
) -> None:
    out, found, _, _ = compared
    before = (out / "versus.json").read_bytes()
    assert versus(SMALL, out, minutes=MINUTES) == found
    assert (out / "versus.json").read_bytes() == before


def test_a_folder_of_another_comparison_is_refused(compared: tuple[Path, Verdict, list[str], float]) -> None:
    out, *_ = compared
    for given, minutes in ((SMALL, 5.0), ({**SMALL, "batch_size": 16}, MINUTES)):
        with pytest.raises(UserError, match="holds another comparison: other keys, minutes or seeds"):
            versus(given, out, minutes=minutes)


def test_the_command_prints_the_verdict_the_file_to_keep_and_what_to_do_next(
    compared: tuple[Path, Verdict, list[str], float],
) -> None:
    out, found, _, _ = compared
    words = ["versus", "data.per_class=12", "batch_size=32", "--minutes", str(MINUTES), "--out", str(out)]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert str(found) in done.output
    assert f"Keep: {found.file}" in done.output
    assert f"codistill predict '{found.run}' --student {found.student} IMAGE..." in done.output
    assert f"codistill report '{out}'" in done.output
    if found.winner != TOGETHER:
        assert f"--minutes {2 * MINUTES:g}" in done.output


def test_a_run_that_fails_is_named_with_what_it_printed(tmp_path: Path) -> None:
    diverging = {**SMALL, "optimizer": {"lr": 1e30, "warmup_epochs": 0}}
    with pytest.raises(UserError, match=r"Run '.*-seed0' failed: Training diverged.* All that it printed: .*\.log"):
        versus(diverging, tmp_path / "out", minutes=MINUTES, pace=QUICK._replace(turns=1))
