"""What a folder holds decides what may be done in it; what happens to it during training is said."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import Silent
from test_atomic_io import files_of_at_most

from codistill import UserError
from codistill.config.schema import make_config
from codistill.experiments.doctor import first_difference
from codistill.storage.atomic_io import SaveError
from codistill.storage.run_dir import RunFolder
from codistill.storage.run_files import read_metrics, read_summary
from codistill.training import restore, trainer
from codistill.training.recorder import Recorder

CONFIG = make_config(
    {
        "students": {"a": "resnet8", "b": "resnet8"},
        "tasks": "jigsaw",
        "method": "collaborative",
        "data": {"name": "digits", "per_class": 4, "validation": 0.02},
        "batch_size": 20,
        "epochs": 4,
        "log_every": 1,
    }
)


class Warned(Silent):
    """A display that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Stopped(Exception):
    """Stands for the end of the process."""


def train_until(
    step: int, run: Path, monkeypatch: pytest.MonkeyPatch, what: Any = None, error: type[Exception] = Stopped
) -> str:
    """Train until something happens before ``step`` is logged (or the process ends there). Returns the error's text."""
    after_step = Recorder.after_step

    def happens(self: Recorder, epoch: int, number: int, *rest: Any) -> None:
        if number == step:
            if what is None:
                raise Stopped
            what()
        after_step(self, epoch, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "after_step", happens)
        with pytest.raises(error) as caught:
            trainer.train(CONFIG, run, Silent())
    return str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    trainer.train(CONFIG, run, Silent())
    return run


def test_a_run_goes_on_exactly_from_the_checkpoint_that_is_really_used(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, display = tmp_path / "run", Warned()
    train_until(5, run, monkeypatch)  # in the third epoch of two steps
    (run / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:-100])
    assert max(line["epoch"] for line in read_metrics(run)) == 3
    trainer.train(CONFIG, run, display, resume=True)
    (warning,) = display.warnings
    assert "checkpoint.pt' is damaged" in warning
    assert "of epoch 1." in warning
    assert first_difference(whole, run) is None
    assert read_summary(run)["warnings"][-1] == warning


def test_a_run_that_was_stopped_in_its_first_epoch_is_resumed_from_the_start(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, display = tmp_path / "run", Warned()
    train_until(1, run, monkeypatch)
    assert len(read_metrics(run)) == 1
    with pytest.raises(UserError, match=r"holds an unfinished run.*train --resume"):
        trainer.train(CONFIG, run, Silent())
    trainer.train(CONFIG, run, display, resume=True)
    assert display.warnings == [f"Nothing was saved yet in '{run}': training begins anew."]
    assert first_difference(whole, run) is None


def test_a_folder_in_which_a_run_was_killed_before_it_began_counts_as_empty(tmp_path: Path) -> None:
    for name in (".lock", ".config.yaml.tmp"):
        (tmp_path / name).write_text("")
    with RunFolder(tmp_path) as folder:
        folder.start("epochs: 1\n")
    assert (tmp_path / "config.yaml").read_text() == "epochs: 1\n"


@pytest.mark.parametrize(
    ("files", "overwrite", "words"),
    [
        (("config.yaml", "summary.json"), False, "already holds a finished run"),
        ((".lock", "config.yaml", "summary.json"), False, "already holds a finished run"),
        ((".lock", "config.yaml", "checkpoint.pt"), False, "holds an unfinished run"),
        (("thesis.tex",), False, "is not empty"),
        (("thesis.tex",), True, "holds no run: it is not replaced"),
        (None, True, "is a file"),
    ],
)
def test_a_folder_that_is_not_free_is_told_before_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...] | None, overwrite: bool, words: str
) -> None:
    def decoded(*_: Any, **__: Any) -> None:
        raise AssertionError("images were decoded first")

    run = tmp_path / "run"
    if files is None:
        run.touch()
    for name in files or ():
        run.mkdir(exist_ok=True)
        (run / name).touch()
    monkeypatch.setattr(trainer, "build", decoded)
    with pytest.raises(UserError, match=words):
        trainer.train(CONFIG, run, Silent(), overwrite=overwrite)


def test_nothing_is_written_before_everything_is_built(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(UserError, match="batch_size=9999"):
        trainer.train(CONFIG.model_copy(update={"batch_size": 9999}), tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()
    finished_run = tmp_path / "finished"
    shutil.copytree(whole, finished_run)
    with pytest.raises(UserError, match="batch_size=9999"):
        trainer.train(CONFIG.model_copy(update={"batch_size": 9999}), finished_run, Silent(), overwrite=True)
    assert first_difference(whole, finished_run) is None


def test_a_folder_that_holds_no_run_is_not_overwritten(tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "checkpoint.pt", "report.html", "tensorboard/events"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("of somebody else")
    before = sorted(tmp_path.rglob("*"))
    with RunFolder(tmp_path) as folder, pytest.raises(UserError, match="is not empty and holds no run"):
        folder.start("epochs: 1\n", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_overwriting_leaves_nothing_of_the_old_run(tmp_path: Path, whole: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "report").mkdir()
    stale = ("checkpoint.previous.pt", "checkpoint.damaged.pt", "students/.c.safetensors.tmp")
    for name in (*stale, "report.html", "report/learning.svg"):
        (run / name).write_bytes(b"old")
    with RunFolder(run) as folder:
        folder.start("epochs: 1\n", overwrite=True)
    assert {path.name for path in run.rglob("*") if path.is_file()} == {"config.yaml", ".lock"}


@pytest.mark.parametrize("killed_after", range(1, 6))
def test_whoever_is_killed_while_overwriting_never_resumes_another_configuration(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    run, unlink, calls = shutil.copytree(whole, tmp_path / "run"), Path.unlink, []

    def dies(self: Path, missing_ok: bool = False) -> None:
        calls.append(self)
        if len(calls) > killed_after:
            raise Stopped
        unlink(self, missing_ok)

    with monkeypatch.context() as patch, RunFolder(run) as folder:
        patch.setattr(Path, "unlink", dies)
        with pytest.raises(Stopped):
            folder.start("epochs: 1\n", overwrite=True)
    with pytest.raises(UserError, match=r"has no config\.yaml"):
        restore.read_run_config(run)
    with RunFolder(run) as folder, pytest.raises(UserError, match="or add --overwrite"):
        folder.start("epochs: 1\n")
    with RunFolder(run) as folder:
        folder.start("epochs: 1\n", overwrite=True)


def test_a_full_disk_keeps_the_last_checkpoint_and_says_what_it_needs(tmp_path: Path) -> None:
    small = {"cohort": {}, "optimizer": {}, "config": "", "epochs_done": 1, "steps_done": 3}
    large = {**small, "cohort": {"weights": torch.zeros(500_000)}, "epochs_done": 2}
    with RunFolder(tmp_path) as folder:
        folder.start("")
        folder.log({"epoch": 1})
        folder.save_checkpoint(small)
        with files_of_at_most(1_000_000), pytest.raises(SaveError) as caught:
            folder.save_checkpoint(large)
        assert f"'{tmp_path}/checkpoint.pt' could not be written: File too large. It needs 2.0 MB, " in str(
            caught.value
        )
        assert not list(tmp_path.glob(".*.tmp"))
        assert folder.load_checkpoint()["epochs_done"] == 1
        folder.save_checkpoint(large)  # room was made
        assert folder.load_checkpoint()["epochs_done"] == 2


def test_a_disk_that_is_full_in_the_midst_of_training_loses_nothing(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, fsync, full = tmp_path / "run", os.fsync, []

    def no_space(descriptor: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        said = train_until(5, run, monkeypatch, lambda: full.append(True), SaveError)
    assert "No space left on device" in said
    trainer.train(CONFIG, run, Silent(), resume=True)
    assert first_difference(whole, run) is None


def test_a_folder_that_is_deleted_during_training_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    said = train_until(3, run, monkeypatch, lambda: shutil.rmtree(run), SaveError)
    assert said.startswith(f"Run folder '{run}' was deleted or moved during training")
    assert not run.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: Any, **__: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    run = shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr(os, "open", read_only)  # how a lock is made
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(UserError, match=rf"'{run}' cannot be written: Read-only file system"):
            trainer.train(CONFIG, run, Silent(), **options)


def test_a_file_system_without_locks_is_warned_of_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def not_implemented(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", not_implemented)
    warnings: list[str] = []
    with RunFolder(tmp_path / "run", warnings.append) as folder:
        folder.start("")
    assert warnings == [
        f"The file system of '{tmp_path}/run' has no locks: see that nobody else trains in this folder."
    ]


def test_weights_of_another_model_are_refused_with_what_differs(tmp_path: Path, whole: Path) -> None:
    run, other = shutil.copytree(whole, tmp_path / "run"), tmp_path / "other"
    trainer.train(
        CONFIG.model_copy(update={"epochs": 1, "students": {"a": "resnet14", "b": "resnet8"}}), other, Silent()
    )
    shutil.copy(other / "students" / "a.safetensors", run / "students" / "a.safetensors")
    with pytest.raises(
        UserError, match=r"a.safetensors' do not fit the run's config.yaml: unexpected: '\S+', '\S+' and"
    ):
        restore.evaluate_run(run)
    state = RunFolder(other).load_checkpoint()
    state["cohort"]["students.b.classifier.weight"] = torch.zeros(7, 64)
    del state["cohort"]["students.b.classifier.bias"]
    with RunFolder(run) as folder:
        folder.save_checkpoint(state)
    with pytest.raises(UserError) as caught:
        restore.evaluate_run(run)
    for words in (
        "other shapes: 'students.b.classifier.weight' is (7, 64) there, (10, 64) here.",
        "missing: 'students.b.classifier.bias'.",
        "unexpected: 'students.a.",
    ):
        assert words in str(caught.value)


def test_a_students_file_of_which_one_bit_was_altered_is_named(tmp_path: Path, whole: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    path = run / "students" / "a.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=r"a.safetensors' was altered: its SHA-256"):
        restore.evaluate_run(run)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, whole: Path) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "summary.json").unlink()
    (run / "summary.json").mkdir()
    with pytest.raises(UserError, match=r"summary.json' cannot be read: Is a directory"):
        restore.evaluate_run(run)


def test_the_file_of_a_student_of_any_allowed_name_lies_in_the_run_folder(tmp_path: Path) -> None:
    students = {"ä b-1": "resnet8", "~": "resnet8", "ü" * 100: "resnet8", "$HOME": "resnet8"}
    run = tmp_path / "deep" / "run"
    trainer.train(
        make_config({**CONFIG.model_dump(), "epochs": 1, "students": students, "tasks": "none"}), run, Silent()
    )
    assert {path.stem for path in (run / "students").iterdir()} == {*students, *(f"{name}.best" for name in students)}
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]
    restore.evaluate_run(run)
