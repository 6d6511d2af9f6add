"""What experiment trackers are told, and that they can neither change nor end training."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from cohorts import Silent

from codistill import UserError
from codistill.config.schema import RunConfig, make_config
from codistill.storage import checkpoint
from codistill.storage.run_files import read_metrics, read_summary
from codistill.training import restore, trackers, trainer
from codistill.training.recorder import Recorder
from codistill.training.signals import Stopped
from codistill.training.trackers import Trackers, accuracies, figures, flat

SHORT = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": "none",
    "method": "dml",
    "data": {"name": "digits", "per_class": 4, "validation": 0.02},
    "batch_size": 20,
    "epochs": 2,
    "log_every": 1,
}


def short(*trackers: str, **more: Any) -> RunConfig:
    return make_config({**SHORT, "trackers": list(trackers), **more})


class Warned(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Fake:
    """A tracker that remembers what it is told, and fails in the call of that name."""

    fails = ""
    all_of_them: ClassVar[list["Fake"]] = []

    def __init__(self, **arguments: Any) -> None:
        self.arguments, self.told, self.calls = arguments, [], []
        self.all_of_them.append(self)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise ConnectionError(f"no network in {name}\nand more")

    def start(self) -> None:
        self._called("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.configuration = values
        self._called("store_init_configuration")

    def log(self, values: dict[str, Any], step: int) -> None:
        self.told.append((step, values))
        self._called("log")

    def finish(self) -> None:
        self._called("finish")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """In place of TensorBoard and Trackio, whether they are installed or not."""
    table = pytest.importorskip("accelerate.tracking").LOGGER_TYPE_TO_CLASS
    monkeypatch.setitem(table, "tensorboard", Fake)
    monkeypatch.setitem(table, "trackio", Fake)
    monkeypatch.setattr(trackers, "_installed", lambda package: True)
    monkeypatch.setattr(Fake, "all_of_them", [])
    return Fake


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """This process is asked to stop after that step."""
    after_step: Callable[..., None] = Recorder.after_step

    def stopping(self: Recorder, epoch: int, done: int, *rest: Any) -> None:
        if done + 1 == step:
            os.kill(os.getpid(), number)
        after_step(self, epoch, done, *rest)

    monkeypatch.setattr(Recorder, "after_step", stopping)


def test_without_trackers_accelerate_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "accelerate"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "accelerate", None)  # whoever imports it now fails
    trainer.train(short(), tmp_path / "run", Silent())
    assert not (tmp_path / "run" / "trackers.json").exists()
    with pytest.raises(ImportError):
        import accelerate  # noqa: F401


def test_a_tracker_is_told_the_figures_of_each_line_at_its_step_and_the_test_accuracies(
    tmp_path: Path, fake: type[Fake]
) -> None:
    run = tmp_path / "run"
    trainer.train(short("trackio", "trackio", project="mine"), run, Silent())
    (tracker,) = fake.all_of_them
    lines = read_metrics(run)
    *logged, (last_step, tested) = tracker.told
    assert logged == [(line["step"], figures(line)) for line in lines]
    accuracy = read_summary(run)["test_accuracy"]
    assert last_step == lines[-1]["step"]
    assert tested == {
        **{f"test/{n}": p for n, p in accuracy["students"].items()},
        "test/ensemble": accuracy["ensemble"],
    }
    assert tracker.arguments["run_name"] == "mine"
    assert tracker.arguments["name"] == "run"
    assert tracker.configuration["optimizer.lr"] == 0.1
    assert tracker.calls[-1] == "finish"


def test_figures_are_named_by_what_they_are() -> None:
    interval = {"kind": "interval", "epoch": 1, "step": 3, "losses": {"a/ce": 2.0}, "lr": 0.1, "images_per_second": 9.0}
    assert figures(interval) == {"losses/a/ce": 2.0, "lr": 0.1, "images_per_second": 9.0}
    accuracy = {"students": {"a": 50.0}, "teacher": 60.0, "ensemble": 55.0}
    epoch = {**interval, "kind": "epoch", "validation_accuracy": accuracy, "warnings": ["a collapsed"]}
    assert figures(epoch) == {
        "epoch_losses/a/ce": 2.0,
        "lr": 0.1,
        "images_per_second": 9.0,
        "validation/a": 50.0,
        "validation/teacher": 60.0,
        "validation/ensemble": 55.0,
    }
    without_a_teacher = {**epoch, "validation_accuracy": {**accuracy, "teacher": None}}
    assert "validation/teacher" not in figures(without_a_teacher)
    assert not [name for name in figures({**epoch, "validation_accuracy": None}) if "validation" in name]


def test_a_configuration_is_told_as_numbers_and_words() -> None:
    tasks = [[{"name": "coarse", "superclasses": [0, 0, 1]}], []]
    given = {"epochs": 3, "optimizer": {"lr": 0.1, "clip_norm": None}, "tasks": tasks, "weights": {"a/*_kl": 2.0}}
    assert dict(flat(given)) == {
        "epochs": 3,
        "optimizer.lr": 0.1,
        "optimizer.clip_norm": "null",
        "tasks.0.0.name": "coarse",
        "tasks.0.0.superclasses": "[0, 0, 1]",
        "tasks.1": "[]",
        "weights": '{"a/*_kl": 2.0}',
    }


@pytest.mark.parametrize("call", ["log", "finish"])
def test_a_tracker_that_fails_is_warned_of_once_and_training_goes_on(
    call: str, tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "fails", call)
    display = Warned()
    trainer.train(short("trackio"), tmp_path / "run", display)
    assert [text for text in display.warnings if "tracker" in text] == [
        f"The tracker 'trackio' failed and is given up: no network in {call}. "
        "Training goes on; metrics.jsonl has it all."
    ]
    assert fake.all_of_them[0].calls.count(call) == 1
    assert len(read_metrics(tmp_path / "run")) > 2
    assert read_summary(tmp_path / "run")["test_accuracy"]


def test_a_tracker_that_fails_takes_no_other_with_it(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Good(Fake):
        fails = ""

    monkeypatch.setitem(sys.modules["accelerate.tracking"].LOGGER_TYPE_TO_CLASS, "tensorboard", Good)
    monkeypatch.setattr(fake, "fails", "log")
    trainer.train(short("trackio", "tensorboard"), tmp_path / "run", Silent())
    bad, good = fake.all_of_them
    assert len(bad.told) == 1
    assert len(good.told) == len(read_metrics(tmp_path / "run")) + 1


@pytest.mark.parametrize("call", ["start", "store_init_configuration"])
def test_a_tracker_that_cannot_be_started_is_refused_before_training(
    call: str, tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "fails", call)
    with pytest.raises(UserError, match=rf"The tracker 'trackio' could not be started: no network in {call}\.$"):
        trainer.train(short("trackio"), tmp_path / "run", Silent())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_resumed_run_goes_on_in_the_same_place_and_without_a_tracker_that_is_gone(
    tmp_path: Path, fake: type[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = tmp_path / "run", short("trackio", "tensorboard")
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(Stopped):
            trainer.train(config, run, Silent())
    assert [tracker.calls[-1] for tracker in fake.all_of_them] == ["finish", "finish"]
    fake.all_of_them.clear()

    class Gone(Fake):
        fails = "start"

    monkeypatch.setitem(sys.modules["accelerate.tracking"].LOGGER_TYPE_TO_CLASS, "trackio", Gone)
    display = Warned()
    trainer.train(config, run, display, resume=True)
    gone, board = fake.all_of_them
    assert gone.arguments["resume"] == "allow"
    assert gone.calls == ["start"]
    assert "The tracker 'trackio' failed and is given up: no network in start." in display.warnings[0]
    assert board.arguments["purge_step"] == 4
    assert "store_init_configuration" not in board.calls
    assert board.told[0][0] == 4


def test_a_run_that_replaces_another_begins_anew_with_its_trackers(tmp_path: Path, fake: type[Fake]) -> None:
    for overwrite in (False, True):
        trainer.train(short("trackio"), tmp_path / "run", Silent(), overwrite=overwrite)
    assert [tracker.arguments["resume"] for tracker in fake.all_of_them] == ["never", "never"]
    (tmp_path / "run" / "tensorboard").mkdir()
    trainer.train(short(), tmp_path / "run", Silent(), overwrite=True)
    assert not {"trackers.json", "tensorboard"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_a_damaged_list_of_trackers_is_named(tmp_path: Path, fake: type[Fake]) -> None:
    for damaged in (b"{", b"[]", b"\xff"):
        (tmp_path / "trackers.json").write_bytes(damaged)
        with pytest.raises(UserError, match=r"trackers.json' is damaged\. Remove it"):
            Trackers(["trackio"], "mine", tmp_path, Silent().warn).start({}, 0)


def test_a_tracker_without_its_package_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda package: package != "mlflow")
    with pytest.raises(UserError, match=r"'mlflow' needs mlflow, not installed here: pip install codistill\[mlflow\]"):
        trainer.train(short("mlflow", data={"name": "/nowhere"}), tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_a_folder_named_like_a_package_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_tracker").mkdir()  # as the folder 'wandb' that W&B leaves in the working folder
    monkeypatch.syspath_prepend(tmp_path)
    assert not trackers._installed("a_tracker")
    assert trackers._installed("torch")


class Wandb:
    """As much of wandb as is asked whether there is a login."""

    def __init__(self, mode: str, login: bool | Exception) -> None:
        self.settings, self.mode, self._login = self, mode, login

    def setup(self) -> "Wandb":
        return self

    def login(self, *, prompt: bool, verify: bool) -> bool:
        assert not prompt
        if isinstance(self._login, Exception):
            raise self._login
        return self._login


def test_wandb_needs_a_login_or_to_be_offline_and_is_never_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(mode: str, login: bool | Exception) -> None:
        monkeypatch.setitem(sys.modules, "wandb", Wandb(mode, login))
        Trackers(["wandb"], "mine", tmp_path, Silent().warn).check()

    monkeypatch.setattr(trackers, "_installed", lambda package: True)
    check("online", True)
    check("offline", False)
    check("disabled", False)
    with pytest.raises(UserError, match=r"no login here\. Run 'wandb login' or .*WANDB_MODE=offline"):
        check("online", False)
    with pytest.raises(UserError, match=r"'wandb' cannot be used: the key is too short\."):
        check("online", ValueError("the key is too short"))


# With the trackers themselves, where they are installed.


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: (step, value) by name."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_tensorboard_shows_the_figures_of_metrics_jsonl_each_once_though_the_run_was_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(Stopped):
            trainer.train(short("tensorboard"), run, Silent())
    lost = {"kind": "interval", "step": 4, "losses": {"total": -1.0}, "lr": 0.0, "images_per_second": 0.0}
    with Trackers(["tensorboard"], "mine", run, Silent().warn) as trackers:  # an attempt that was killed unsaved
        trackers.start({}, 3)
        trackers.log(lost)
    trainer.train(restore.read_run_config(run), run, Silent(), resume=True)

    lines, shown = read_metrics(run), scalars(run)
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in figures(line).items():
            expected.setdefault(name, []).append((line["step"], value))
    test = read_summary(run)["test_accuracy"]
    for name, percent in {**test["students"], "ensemble": test["ensemble"]}.items():
        expected[f"test/{name}"] = [(lines[-1]["step"], percent)]
    assert shown.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in shown[name]] == [step for step, _ in points], name
        assert [value for _, value in shown[name]] == pytest.approx([value for _, value in points], rel=1e-6), name
    (hyperparameters,) = run.glob("tensorboard/*/hparams.yml")
    assert "optimizer.lr: 0.1" in hyperparameters.read_text()


def test_training_is_the_same_to_the_bit_with_and_without_a_tracker(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trainer.train(short(), tmp_path / "without", Silent())
    trainer.train(short("tensorboard"), tmp_path / "with", Silent())
    one, other = (checkpoint.read(tmp_path / name / "checkpoint.pt") for name in ("without", "with"))
    torch.testing.assert_close(one["cohort"], other["cohort"], atol=0, rtol=0)
    torch.testing.assert_close(one["optimizer"]["state"], other["optimizer"]["state"], atol=0, rtol=0)
    assert torch.equal(one["random_state"], other["random_state"])


def test_wandb_offline_mlflow_and_trackio_hold_a_run_in_local_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():
        monkeypatch.setenv(name, value)
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    display, run = Warned(), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(Stopped):
            trainer.train(short("wandb", "mlflow", "trackio"), run, display)
    trainer.train(restore.read_run_config(run), run, display, resume=True)
    assert not [text for text in display.warnings if "tracker" in text]

    ids, lines = json.loads((run / "trackers.json").read_text()), read_metrics(run)
    losses = [(line["step"], line["losses"]["total"]) for line in lines if line["kind"] == "interval"]
    client = mlflow.MlflowClient()
    history = client.get_metric_history(ids["mlflow"], "losses/total")
    assert [(point.step, point.value) for point in history] == losses
    assert client.get_run(ids["mlflow"]).data.params["optimizer.lr"] == "0.1"
    (record,) = storage.get_run_records("codistill")
    logs = storage.get_logs("codistill", "run", run_id=record["id"])
    assert [(log["step"], log["losses/total"]) for log in logs if "losses/total" in log] == losses
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{ids['wandb']}"))) == 2


def test_a_student_that_is_called_teacher_hides_no_teacher() -> None:
    found = {"students": {"teacher": 70.0, "b": 60.0}, "teacher": 80.0, "ensemble": 75.0}
    told = {"test/teacher": 80.0, "test/student teacher": 70.0, "test/b": 60.0, "test/ensemble": 75.0}
    assert accuracies("test", found) == told
