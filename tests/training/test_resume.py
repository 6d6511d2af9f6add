"""What may be another when a run goes on: how long it still takes, and on what device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cohorts import Silent
from interrupted import killed_after_step

from codistill import UserError
from codistill.config.recipe import load_config
from codistill.config.schema import make_config
from codistill.evaluation.compare.rows import compare
from codistill.storage.run_files import read_config, read_metrics, read_summary
from codistill.training import restore, trainer
from codistill.training.resume import config_to_go_on, taken_up

SETTINGS: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": "jigsaw",
    "method": {"name": "collaborative", "ramp": 0.5},
    "data": {"name": "digits", "per_class": 12},
    "batch_size": 32,
    "log_every": 2,
    "epochs": 20,
}
STEPS = 3  # of an epoch


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., Path]:
    """Begins a run, and ends it after ``steps``, which are saved."""

    def begin(steps: int, **changes: Any) -> Path:
        with killed_after_step(steps):
            trainer.train(make_config({**SETTINGS, "save_minutes": 1e-9, **changes}), tmp_path / "run", Silent())
        return tmp_path / "run"

    return begin


def go_on(run: Path, **changes: Any) -> dict[str, Any]:
    return trainer.train(config_to_go_on(run, changes), run, Silent(), resume=True)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoint.pt", weights_only=True)["cohort"]


def steady(run: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock wrote."""
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(run)]


def test_a_run_may_end_earlier_and_its_configuration_alone_reproduces_that(
    begun: Callable[..., Path], tmp_path: Path
) -> None:
    run = begun(steps=4)
    go_on(run, epochs=3)
    config = read_config(run)
    assert (config["epochs"], config["replanned"]) == (3, [{"until_step": 4, "epochs": 20}])
    rates = [line["lr"] for line in read_metrics(run) if line["kind"] == "interval"]
    assert rates[0] > 0.06  # it warms up, for 20 epochs
    assert rates[-1] < 0.02  # after 8 of 9 steps a cosine is as good as done

    trainer.train(make_config(config), tmp_path / "again", Silent())
    torch.testing.assert_close(weights(tmp_path / "again"), weights(run), atol=0, rtol=0)
    assert steady(tmp_path / "again") == steady(run)


class Noting(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)

    def warn(self, text: str) -> None:
        self.told.append(text)


def test_a_run_that_goes_on_says_first_after_which_step_and_repeats_nothing(tmp_path: Path) -> None:
    config = make_config({**SETTINGS, "save_minutes": 1e-9, "optimizer": {"weight_decay": 0.02}})
    first, second, third = Noting(), Noting(), Noting()
    with killed_after_step(4):
        trainer.train(config, tmp_path / "run", first)
    assert all(sign in str(first.told) for sign in ("Method collaborative", "few for tasks", "weight_decay=0.02"))
    with killed_after_step(7):
        trainer.train(config_to_go_on(tmp_path / "run", {}), tmp_path / "run", second, resume=True)
    assert second.told == ["Resuming after step 4 of 60."]
    trainer.train(config_to_go_on(tmp_path / "run", {"epochs": 3}), tmp_path / "run", third, resume=True)
    assert third.told[0] == "Resuming after step 7 of 9."
    assert not set(third.told) & set(first.told)


def test_a_run_that_reproduces_one_goes_on_as_that_did_where_it_was_interrupted(
    begun: Callable[..., Path], tmp_path: Path
) -> None:
    earlier = {"replanned": [{"until_step": 4, "epochs": 20}], "epochs": 2}
    trainer.train(make_config({**SETTINGS, **earlier}), tmp_path / "whole", Silent())
    run = begun(steps=2, **earlier)  # before it was decided
    go_on(run)
    assert read_config(run)["replanned"] == earlier["replanned"]
    torch.testing.assert_close(weights(run), weights(tmp_path / "whole"), atol=0, rtol=0)


def test_of_a_run_that_saved_nothing_yet_no_other_plan_is_kept(begun: Callable[..., Path]) -> None:
    run = begun(steps=2, save_minutes=10)
    go_on(run, epochs=1)
    assert read_config(run)["epochs"] == 1
    assert "replanned" not in read_config(run)


def test_a_finished_run_is_not_prolonged(begun: Callable[..., Path]) -> None:
    run = begun(steps=2, epochs=1)
    go_on(run)
    before = (run / "checkpoint.pt").read_bytes()
    longer = make_config({**read_config(run), "epochs": 2})
    with pytest.raises(UserError, match="is finished: there is nothing to resume"):
        trainer.train(longer, run, Silent(), resume=True)
    assert (run / "checkpoint.pt").read_bytes() == before


def test_a_recipe_that_was_replanned_is_not_when_it_is_to_have_other_epochs(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("epochs: 3\nreplanned: [{until_step: 4, epochs: 20}]\n")
    assert len(load_config(tmp_path / "r.yaml", ["seed=1"]).replanned) == 1
    assert not load_config(tmp_path / "r.yaml", ["epochs=5"]).replanned


def test_a_run_whose_epochs_are_done_is_tested_at_once(begun: Callable[..., Path]) -> None:
    run = begun(steps=2 * STEPS + 1)
    (run / "checkpoint.pt").unlink()  # back to the end of the second epoch, which was saved before
    before = torch.load(run / "checkpoint.previous.pt", weights_only=True)["cohort"]
    summary = go_on(run, epochs=2)
    assert summary == read_summary(run)
    torch.testing.assert_close(weights(run), before, atol=0, rtol=0)
    assert restore.evaluate_run(run)[0]._asdict() == summary["test_accuracy"]


def test_it_may_be_decided_again_and_a_run_that_lasts_longer_is_one_of_more_epochs(begun: Callable[..., Path]) -> None:
    run = begun(steps=2, epochs=1)
    go_on(run, epochs=2)
    assert read_config(run)["replanned"] == [{"until_step": 2, "epochs": 1}]
    assert [line["step"] for line in read_metrics(run) if line["kind"] == "epoch"] == [STEPS, 2 * STEPS]


def test_a_decision_that_was_written_down_before_the_process_was_killed_holds(begun: Callable[..., Path]) -> None:
    run = begun(steps=4)
    config = {**read_config(run), "epochs": 2, "replanned": [{"until_step": 4, "epochs": 20}]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    go_on(run)
    assert read_config(run) == config


def test_too_few_epochs_are_refused_and_the_run_goes_on_as_before(begun: Callable[..., Path]) -> None:
    run = begun(steps=4)
    kept = {name: (run / name).read_bytes() for name in ("config.yaml", "checkpoint.pt", "metrics.jsonl")}
    with pytest.raises(UserError, match=r"epochs=1 are too few: 2 are begun already"):
        go_on(run, epochs=1)
    assert kept == {name: (run / name).read_bytes() for name in kept}


def test_a_run_does_not_end_before_its_warm_up(begun: Callable[..., Path]) -> None:
    run = begun(steps=4, optimizer={"warmup_epochs": 3})
    with pytest.raises(UserError, match=r"epochs=2 are fewer than optimizer\.warmup_epochs=3 of the run"):
        config_to_go_on(run, {"epochs": 2})


def test_a_run_with_weights_drawn_anew_at_a_share_of_training_keeps_its_length(begun: Callable[..., Path]) -> None:
    run = begun(steps=4, poison={"student": "b", "reinitialise": 0.5})
    with pytest.raises(UserError, match=r"poison\.reinitialise is at a share of training"):
        go_on(run, epochs=2)


def test_runs_that_were_planned_otherwise_for_a_while_do_not_compete(
    begun: Callable[..., Path], tmp_path: Path
) -> None:
    go_on(begun(steps=4), epochs=2)
    trainer.train(make_config({**SETTINGS, "epochs": 2, "seed": 1}), tmp_path / "other", Silent())
    assert [len(block.rows) for block in compare([tmp_path / "run", tmp_path / "other"]).blocks] == [1, 1]


@pytest.mark.parametrize("key", ["seed", "optimizer.lr", "data", "method"])
def test_what_was_trained_with_so_far_cannot_be_given_anew(key: str, begun: Callable[..., Path]) -> None:
    run = begun(steps=2)
    with pytest.raises(
        UserError, match=rf"of its keys epochs, device, compile, side_by_side can be given anew, not {key}\."
    ):
        config_to_go_on(run, {key: 1})


LARGER_MAPS = {"data": {"name": "digits", "per_class": 12, "image_size": 16}}  # of four by four positions


def without_grid(run: Path) -> str:
    """Make the configuration of a run one of an earlier version, whose CPM worked on the whole of the smallest map."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["method"].pop("grid") is None
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return yaml.safe_dump(config)


def test_a_run_of_an_earlier_version_goes_on_and_is_evaluated_on_the_whole_map(
    begun: Callable[..., Path], tmp_path: Path
) -> None:
    given = {**SETTINGS, **LARGER_MAPS, "epochs": 2, "method": {**SETTINGS["method"], "grid": None}}
    trainer.train(given, tmp_path / "whole", Silent())
    run = begun(steps=4, **given)
    without_grid(run)
    go_on(run)
    torch.testing.assert_close(weights(run), weights(tmp_path / "whole"), atol=0, rtol=0)
    without_grid(run)
    accuracy, summary = restore.evaluate_run(run)
    assert accuracy._asdict() == summary["test_accuracy"]
    assert read_config(run)["method"]["grid"] is None
    with pytest.raises(UserError, match="are the same run"):
        compare([run, tmp_path / "whole"])


def test_a_checkpoint_of_an_earlier_version_has_the_grid_that_it_was_trained_with(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        make_config({**SETTINGS, "method": {"name": "collaborative", "grid": None}}).to_yaml()
    )
    state = {"config": without_grid(tmp_path), "steps_done": 4}
    assert taken_up(restore.read_run_config(tmp_path), state).method.settings["grid"] is None


def test_the_configuration_of_an_earlier_run_trains_it_again_as_it_was_and_a_recipe_has_todays_default(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.yaml").write_text("method: collaborative\n")
    assert load_config(tmp_path / "config.yaml").method.settings["grid"] == 2  # a recipe of that name
    (tmp_path / "config.yaml").write_text(
        make_config({**SETTINGS, "method": {"name": "collaborative", "grid": None}}).to_yaml()
    )
    (tmp_path / "metrics.jsonl").touch()
    without_grid(tmp_path)
    assert load_config(tmp_path / "config.yaml").method.settings["grid"] is None
    assert load_config(tmp_path / "config.yaml", ["method.grid=3"]).method.settings["grid"] == 3
    assert load_config(tmp_path / "config.yaml", ["method=collaborative"]).method.settings["grid"] == 2
