"""A run as a whole: repeatable to the bit, resumable to the bit, and safe when it goes wrong."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cohorts import Silent
from interrupted import killed_in_step
from safetensors import safe_open
from safetensors.torch import load_file

from codistill import Batch, Cohort, Objective, UserError
from codistill.cli import main
from codistill.config.schema import IF_SET, RunConfig, make_config
from codistill.storage import checkpoint
from codistill.storage.atomic_io import SaveError
from codistill.storage.run_dir import RunFolder
from codistill.storage.run_files import read_config, read_metrics, read_summary
from codistill.training import collapse_monitor, restore, trainer
from codistill.training.build import build
from codistill.training.meter import DivergedError
from codistill.training.recorder import Recorder
from codistill.training.signals import Stopped

SHORT = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "method": "collaborative",
    "tasks": ["rotation", "supcon"],
    "data": {"name": "digits", "per_class": 12},
    "batch_size": 32,
}


def short(**more: Any) -> RunConfig:
    return make_config({**SHORT, "epochs": 2, "log_every": 2, **more})


def run(config: RunConfig, folder: Path, **options: bool) -> dict[str, Any]:
    return trainer.train(config, folder, Silent(), **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)["cohort"]


def outputs_of_epochs(folder: Path) -> list[int]:
    return load_file(folder / "outputs" / "answers.safetensors")["epochs"].tolist()


def steady(folder: Path) -> list[dict[str, Any]]:
    """The metrics without what a clock wrote."""
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(folder)]


def test_the_same_seed_gives_the_same_numbers_bit_for_bit(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        run(short(seed=seed), tmp_path / name)
    torch.testing.assert_close(weights(tmp_path / "one"), weights(tmp_path / "again"), atol=0, rtol=0)
    assert steady(tmp_path / "one") == steady(tmp_path / "again")
    first = "students.a.backbone.conv.weight"
    assert not torch.equal(weights(tmp_path / "one")[first], weights(tmp_path / "other")[first])


def test_a_run_folder_holds_all_that_is_promised(tmp_path: Path) -> None:
    summary = run(short(), tmp_path / "run")
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    students = {f"students/{name}{best}.safetensors" for name in "ab" for best in ("", ".best")}
    outputs = {"outputs/test.safetensors", "outputs/answers.safetensors"}
    assert files == {"config.yaml", "metrics.jsonl", "summary.json", "checkpoint.pt", ".lock", *students, *outputs}
    assert read_summary(tmp_path / "run") == summary
    assert set(summary["test_accuracy"]) == {"students", "teacher", "ensemble"}
    assert set(summary["test_accuracy"]["students"]) == {"a", "b"}
    assert summary["parameters"]["students"] == {"a": 78_042, "b": 78_042}
    assert 0 < summary["parameters"]["training_only"] < 2 * 78_042
    assert set(summary["test_accuracy_selected"]) == {"epoch", "students", "teacher", "ensemble"}
    assert summary["forward_passes"] == {"a": 1.75, "b": 1}  # a sees all quarter turns of a quarter of its images
    promised = {"images_per_second", "peak_memory_bytes", "seconds", "seed", "versions", "commit"}
    assert promised <= set(summary)
    assert summary["processor_seconds"] > 0
    lines = read_metrics(tmp_path / "run")
    assert [(line["kind"], line["epoch"], line["step"]) for line in lines] == [
        ("interval", 1, 2),
        ("epoch", 1, 3),
        ("interval", 2, 4),
        ("interval", 2, 6),
        ("epoch", 2, 6),
    ]
    assert {"a/ce", "a/rotation", "b/supcon", "cpm/ce", "total"} <= set(lines[0]["losses"])


def test_the_written_configuration_alone_reproduces_the_run(tmp_path: Path) -> None:
    run(short(), tmp_path / "run")
    run(make_config(read_config(tmp_path / "run")), tmp_path / "again")
    torch.testing.assert_close(weights(tmp_path / "run"), weights(tmp_path / "again"), atol=0, rtol=0)
    assert (tmp_path / "run" / "config.yaml").read_text() == (tmp_path / "again" / "config.yaml").read_text()


def test_the_written_configuration_leaves_nothing_to_be_filled_in(tmp_path: Path) -> None:
    run(short(), tmp_path / "run")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["augment"]["padding"], config["augment"]["flip"]) == (1, False)
    open_keys = [key for key, value in config["augment"].items() if value is None]
    assert open_keys == ["per_student"]  # which is as the method has it
    assert set(config) == {key for key in RunConfig.model_fields if key not in IF_SET}


def test_an_interrupted_run_goes_on_to_the_same_weights_and_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short(epochs=4, log_every=4)
    monkeypatch.setattr(collapse_monitor, "ALIKE", -1.0)  # warned of in epoch 2, which the resumed run must know
    monkeypatch.setattr(collapse_monitor, "FIRST_STEPS", 0)
    run(config, tmp_path / "whole")

    with killed_in_step(7):  # in the midst of the third epoch and of a log interval
        run(config, tmp_path / "broken")
    with pytest.raises(UserError, match=r"holds an unfinished run.*train --resume"):
        run(config, tmp_path / "broken")
    run(config, tmp_path / "broken", resume=True)
    torch.testing.assert_close(weights(tmp_path / "broken"), weights(tmp_path / "whole"), atol=0, rtol=0)
    assert steady(tmp_path / "broken") == steady(tmp_path / "whole")
    broken, whole = read_summary(tmp_path / "broken"), read_summary(tmp_path / "whole")
    assert (broken["test_accuracy"], broken["warnings"]) == (whole["test_accuracy"], whole["warnings"])
    assert [warning for warning in whole["warnings"] if warning.startswith("Epoch 2: students 'a' and 'b'")]
    for name in ("answers", "test"):
        outputs = [load_file(tmp_path / run_ / "outputs" / f"{name}.safetensors") for run_ in ("broken", "whole")]
        torch.testing.assert_close(*outputs, atol=0, rtol=0)
    assert outputs_of_epochs(tmp_path / "whole") == [1, 2, 3, 4]


@pytest.mark.parametrize("method", ["collaborative", "switokd"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_within_the_epoch_and_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, method: str
) -> None:
    config = short(epochs=3, method=method)
    run(config, tmp_path / "whole")
    after_step = Recorder.after_step

    def asked_in_the_second_epoch(self: Recorder, epoch: int, step: int, *rest: Any) -> None:
        if step == 4:  # in the midst of an epoch and of a log interval
            os.kill(os.getpid(), number)
        after_step(self, epoch, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "after_step", asked_in_the_second_epoch)
        with pytest.raises(Stopped, match=f"Stopped by {number.name} in epoch 2, after step 5"):
            run(config, tmp_path / "stopped")
    assert not issubclass(Stopped, Exception)  # a loop over runs that goes on after those that failed ends
    state = checkpoint.read(tmp_path / "stopped" / "checkpoint.pt")
    assert (state["epochs_done"], state["steps_done"]) == (1, 5)
    run(config, tmp_path / "stopped", resume=True)
    torch.testing.assert_close(weights(tmp_path / "stopped"), weights(tmp_path / "whole"), atol=0, rtol=0)
    assert steady(tmp_path / "stopped") == steady(tmp_path / "whole")


def test_a_second_signal_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked_twice(*rest: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Recorder, "after_step", asked_twice)
    with pytest.raises(KeyboardInterrupt):
        run(short(), tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


def test_long_epochs_are_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    save = RunFolder.save_checkpoint

    def noted(self: RunFolder, state: dict[str, Any]) -> None:
        saved.append(state["steps_done"])
        save(self, state)

    monkeypatch.setattr(RunFolder, "save_checkpoint", noted)
    run(short(save_minutes=1e-9), tmp_path / "often")
    assert saved == [1, 2, 3, 4, 5, 6]
    saved.clear()
    run(short(), tmp_path / "seldom")
    assert saved == [3, 6]
    assert steady(tmp_path / "often") == steady(tmp_path / "seldom")


def test_a_loss_that_turns_nan_stops_the_run_with_its_name_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codistill.tasks import SupCon

    forward, calls = SupCon.forward, []

    def nan_in_the_second_epoch(self: SupCon, *seen: Any) -> torch.Tensor:
        calls.append(1)  # one dry step, then three steps an epoch
        return forward(self, *seen) * (float("nan") if len(calls) > 5 else 1.0)

    monkeypatch.setattr(SupCon, "forward", nan_in_the_second_epoch)
    with pytest.raises(DivergedError, match="Loss b/supcon is NaN or infinite"):
        run(short(log_every=100), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["epochs_done"] == 1
    assert all(value.isfinite().all() for value in state["cohort"].values())
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("log_every", [2, 100])
def test_the_batch_on_which_a_loss_turned_nan_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    forward, seen = Cohort.forward, []

    def noted(self: Cohort, batch: Batch) -> dict[str, torch.Tensor]:
        seen.append(batch)
        losses = forward(self, batch)
        return {**losses, "a/ce": losses["a/ce"] * (float("nan") if len(seen) > 5 else 1.0)}  # one step is dry

    monkeypatch.setattr(Cohort, "forward", noted)
    config = short(log_every=log_every, epochs=3)
    where = r"in epoch 2, step 5\. The batch of that step is in '.*run/bad_batch\.safetensors'"
    with pytest.raises(DivergedError, match=where):
        run(config, tmp_path / "run")
    kept = load_file(tmp_path / "run" / "bad_batch.safetensors")
    torch.testing.assert_close(kept["images"], seen[5].images, atol=0, rtol=0)
    assert torch.equal(kept["labels"], seen[5].labels)
    assert torch.equal(kept["draws"], seen[5].draws)
    assert torch.equal(build(config).train_images.labels[kept["rows"]], kept["labels"])
    with safe_open(tmp_path / "run" / "bad_batch.safetensors", "pt") as file:
        assert file.metadata() == {"epoch": "2", "step": "5"}

    monkeypatch.setattr(Cohort, "forward", forward)
    run(config, tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "bad_batch.safetensors").exists()


def test_the_batch_after_which_a_weight_is_not_finite_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step = Recorder.after_step

    def spoil(self: Recorder, epoch: int, step: int, *rest: Any) -> None:
        if step == 2:
            self._cohort.students["b"].classifier.bias.data[0] = float("inf")
        after_step(self, epoch, step, *rest)

    monkeypatch.setattr(Recorder, "after_step", spoil)
    with pytest.raises(DivergedError, match=r"A weight of 'b' is NaN or infinite\..*step 3\. The batch of that step"):
        run(short(), tmp_path / "run")


def test_a_disk_too_full_for_the_bad_batch_does_not_hide_that_training_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*rest: Any) -> None:
        raise SaveError

    monkeypatch.setattr(RunFolder, "save_bad_batch", full)
    monkeypatch.setattr(Objective, "__call__", lambda self, losses, progress: losses["a/ce"] * float("nan"))
    with pytest.raises(DivergedError, match=r"^Loss total is NaN or infinite\. It was so first in epoch 1, step 1\.$"):
        run(short(), tmp_path / "run")


def test_when_memory_runs_out_the_message_says_what_to_change_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(self: Recorder, *rest: Any) -> None:
        torch.empty(2**60, dtype=torch.uint8)

    def on_a_gpu(self: Recorder, *rest: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.chdir(tmp_path)
    for number, out_of_memory in enumerate((greedy, on_a_gpu)):
        monkeypatch.setattr(Recorder, "after_step", out_of_memory)
        given = ["epochs=1", "data.per_class=12", "batch_size=32", f"run=r{number}"]
        monkeypatch.setattr("sys.argv", ["codistill", "train", *given])
        with pytest.raises(SystemExit) as exit_of_process:
            main.main()
        assert exit_of_process.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("Out of memory: a step with batch_size=32 does not fit.")
        assert said.count("\n") == 1
        for words in ("fraction", "data.image_size", "precision=bf16", f"train r{number}/config.yaml batch_size=16"):
            assert words in said
        assert f"codistill train --resume r{number}" in said


def test_another_error_of_pytorch_is_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "after_step", lambda *rest: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        run(short(), tmp_path / "run")


def test_a_saved_student_alone_answers_as_it_did_in_the_cohort(tmp_path: Path) -> None:
    from codistill import load_student

    run(short(), tmp_path / "run")
    path = tmp_path / "run" / "students" / "b.safetensors"
    student, facts = load_student(path)
    assert not student.training
    assert facts["class_names"] == list("0123456789")
    assert facts["image_size"] == [8, 8]
    with pytest.raises(UserError, match="There is no file"):
        load_student(tmp_path / "nowhere.safetensors")
    with pytest.raises(UserError, match="is not the file of a student"):
        load_student(tmp_path / "run" / "config.yaml")
    prefix = "students.b."
    all_weights = weights(tmp_path / "run")
    in_cohort = {key.removeprefix(prefix): value for key, value in all_weights.items() if key.startswith(prefix)}
    torch.testing.assert_close(student.state_dict(), in_cohort, atol=0, rtol=0)
    with safe_open(path, "pt") as file:
        assert set(file.metadata()) == {"model", "class_names", "image_size", "resize", "mean", "std"}


def test_evaluating_again_gives_the_accuracy_of_the_summary(tmp_path: Path) -> None:
    summary = run(short(method="dml"), tmp_path / "run")
    accuracy, read = restore.evaluate_run(tmp_path / "run")
    assert accuracy._asdict() == summary["test_accuracy"] == read["test_accuracy"]
    assert accuracy.teacher is None


def test_a_run_whose_configuration_was_edited_is_not_resumed(tmp_path: Path) -> None:
    run(short(), tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()  # as if it had ended before it was finished
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace("weight_decay: 0.0005", "weight_decay: 0.5"))
    with pytest.raises(UserError, match="is not the one that its checkpoint was trained with"):
        run(restore.read_run_config(tmp_path / "run"), tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["checkpoint.pt", "config.yaml", "summary.json", "students/a.safetensors"])
@pytest.mark.parametrize("damage", ["emptied", "cut"])
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, name: str, damage: str) -> None:
    run(short(epochs=1), tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(b"" if damage == "emptied" else path.read_bytes()[: len(path.read_bytes()) // 2 - 3])
    with pytest.raises(UserError, match=name):
        restore.evaluate_run(tmp_path / "run")


def test_a_finished_run_survives_a_run_that_cannot_start_in_its_place(tmp_path: Path) -> None:
    run(short(epochs=1), tmp_path / "run")
    with pytest.raises(UserError, match="does not go with Nesterov"):
        run(short(epochs=1, optimizer={"momentum": 0}), tmp_path / "run", overwrite=True)
    with pytest.raises(UserError, match="batch_size=999"):
        run(short(epochs=1, batch_size=999), tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_folder_with_files_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("something: else\n")
    with pytest.raises(UserError, match="is not empty"):
        run(short(), tmp_path / "mine")
    assert (tmp_path / "mine" / "config.yaml").read_text() == "something: else\n"


def test_nothing_is_written_when_something_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size=999 is larger than the training data: 120 images"):
        run(short(batch_size=999), tmp_path / "run")
    with pytest.raises(UserError, match="Unknown loss in weights 'a/cpm'"):
        run(short(weights={"a/cpm": 0.0}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_student_may_have_two_tasks_one_of_them_on_a_part_of_the_batch(tmp_path: Path) -> None:
    run(
        short(tasks=[["rotation", {"name": "jigsaw", "fraction": 0.25}], "none"], order="class_pairs"), tmp_path / "run"
    )
    losses = read_metrics(tmp_path / "run")[0]["losses"]
    assert {"a/rotation", "a/jigsaw", "a/ce", "b/ce"} <= set(losses)
    assert not any(name.startswith("b/") and name.endswith(("rotation", "jigsaw")) for name in losses)


def test_a_runs_gradients_are_clipped_to_the_norm_that_it_was_given(tmp_path: Path) -> None:
    """To almost nothing, so that nothing moves."""
    config = short(epochs=1, optimizer={"clip_norm": 1e-9, "weight_decay": 0.0, "warmup_epochs": 0})
    run(config, tmp_path / "run")
    found = weights(tmp_path / "run")
    begun = {name: parameter.detach() for name, parameter in build(config).cohort.named_parameters()}
    torch.testing.assert_close({name: found[name] for name in begun}, begun, atol=1e-6, rtol=0)


def test_clipping_and_bfloat16_and_the_step_schedule_train_too(tmp_path: Path) -> None:
    own = {"clip_norm": 1.0, "schedule": "step"}
    config = short(optimizer=own, precision="bf16", view_statistics="clean_only", epochs=4)
    summary = run(config, tmp_path / "run")
    first, *_, last = (line["losses"]["total"] for line in read_metrics(tmp_path / "run") if line["kind"] == "epoch")
    assert last < first
    assert summary["test_accuracy"]["ensemble"] > 15  # chance is 10
