"""Training in fp16: every loss stands its small range, what overflows is skipped by all, and nothing else changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import Silent, gradients, make_batch, make_cohort, step_by_hand
from interrupted import killed_in_step
from safetensors.torch import load_file
from together import together
from torch import Tensor

from codistill import Cohort, Objective
from codistill.config.schema import RunConfig, make_config
from codistill.experiments.bench.loops import Ours
from codistill.experiments.bench.worker import losses
from codistill.experiments.doctor import first_difference
from codistill.methods import METHODS
from codistill.storage import checkpoint
from codistill.storage.run_files import read_metrics
from codistill.tasks import TASKS
from codistill.training import restore, trainer
from codistill.training.amp import Scaling
from codistill.training.distributed.init import join
from codistill.training.meter import DivergedError
from codistill.training.runtime import Runtime
from codistill.training.step import Step

CPU = torch.device("cpu")
FP16 = Runtime(CPU, "fp16", side_by_side=False)
INF = float("inf")
THREE = {"a": "resnet8", "b": "resnet8", "c": "resnet8"}


def short(**more: Any) -> RunConfig:
    small = {"students": {"a": "resnet8", "b": "resnet8"}, "tasks": "none", "method": "dml", "batch_size": 20}
    data = {"name": "digits", "per_class": 6}
    return make_config({**small, "data": data, "epochs": 2, "log_every": 2, "precision": "fp16", **more})


class Ends(Silent):
    """What people are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)

    def warn(self, text: str) -> None:
        self.told.append(f"Warning: {text}")


def overflow_in(steps: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """In these steps, counted from 0, the gradient of student a's first layer is infinite; the losses are not."""
    backward, done = Step.backward, iter(range(10**6))

    def spoiled(self: Step, loss: Tensor) -> None:
        backward(self, loss)
        if next(done) in steps:
            next(self._cohort.students["a"].parameters()).grad[0] = INF  # type: ignore[index]

    monkeypatch.setattr(Step, "backward", spoiled)


def one_step(made: tuple[Cohort, Objective], runtime: Runtime, scale: float) -> tuple[dict[str, Tensor], ...]:
    """The losses of a cohort, and the gradients that a scale of the objective leaves, by name."""
    cohort, objective = made
    with runtime.autocast():
        losses = cohort(make_batch(12))
        total = objective(losses)
    (scale * total).backward()
    return losses, {name: gradient / scale for name, gradient in gradients(cohort).items()}


@pytest.mark.parametrize(
    ("method", "task"), [*((method, None) for method in METHODS), *(("independent", task) for task in TASKS)]
)
def test_every_loss_and_its_gradient_is_in_fp16_what_it_is_in_fp32(method: str, task: str | None) -> None:
    found, exact = (
        one_step(make_cohort(THREE, [task, None, None], method), runtime, scale)
        for runtime, scale in ((FP16, 2.0**10), (Runtime(CPU), 1.0))
    )
    assert {loss.dtype for loss in found[0].values()} == {torch.float32}  # or the scale would make them infinite
    for name, loss in exact[0].items():
        torch.testing.assert_close(
            found[0][name], loss, rtol=2e-3, atol=2e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert [name for name, gradient in found[1].items() if not gradient.isfinite().all()] == []
    together_16, together_32 = (torch.cat([g.flatten() for g in way[1].values()]) for way in (found, exact))
    assert (together_16 - together_32).norm() < 0.05 * together_32.norm()


@pytest.mark.parametrize("size", [30.0, 1e4])
@pytest.mark.parametrize("method", METHODS)
def test_answers_that_are_nearly_too_large_for_fp16_leave_losses_and_gradients_finite(method: str, size: float) -> None:
    cohort, objective = make_cohort(THREE, method=method)
    for student in cohort.students.values():
        student.classifier.weight.data *= size / 30
        student.classifier.bias.data.normal_().mul_(size)
    losses, found = one_step((cohort, objective), FP16, 2.0**-10)
    assert [name for name, loss in losses.items() if not loss.isfinite()] == []
    assert [name for name, gradient in found.items() if not gradient.isfinite().all()] == []


def test_a_skipped_step_moves_neither_weights_nor_momentum_nor_moving_averages_and_is_counted() -> None:
    cohort, objective = make_cohort({"a": "cnn", "b": "cnn"}, method="pcl")
    optimizer = FP16.optimizer(cohort, lr=0.1, momentum=0.9, nesterov=True)
    assert optimizer.defaults["fused"]
    scaling = Scaling(optimizer, FP16)
    step = Step(cohort, objective, optimizer, FP16, clip_norm=1.0, scaling=scaling)

    def state() -> dict[str, Tensor]:
        named = dict(cohort.named_parameters())
        found = {**named, "times averaged": cohort.get_buffer("teachers.means.steps")}
        found |= {
            f"momentum of {name}": optimizer.state[p]["momentum_buffer"] for name, p in named.items() if p.requires_grad
        }
        return {name: tensor.detach().clone() for name, tensor in found.items()}

    skipped = 0
    for number, overflows in enumerate([True, False, False, True, True, False]):
        before = state()
        step.backward(step.forward(make_batch(12, seed=number), progress=0.5)[1] * (INF if overflows else 2.0**-6))
        step.update(0.1)
        skipped += overflows
        stayed = [name for name, tensor in state().items() if torch.equal(tensor, before[name])]
        assert stayed == (list(before) if overflows else [])
        assert scaling.figures() == {"skipped_steps": skipped}


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_the_first_steps_from_a_skipped_one_are_those_of_plain_sgd(clip_norm: float | None) -> None:
    """Networks in fp32 throughout: here the scaling alone is looked at."""
    sgd = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    (cohort, objective), plain = (make_cohort({"a": "cnn", "b": "cnn"}, method="dml") for _ in range(2))
    optimizer = Runtime(CPU).optimizer(cohort, **sgd)
    step = Step(cohort, objective, optimizer, Runtime(CPU), clip_norm, Scaling(optimizer, Runtime(CPU, "fp16")))
    cohort.eval()  # a skipped step counts in the running statistics
    for overflow in (True, False, False, True, False):
        loss = step.forward(make_batch(12), progress=0.5)[1]
        step.backward(loss * INF if overflow else loss)
        step.update(0.1)
    by_hand = torch.optim.SGD(plain[0].eval().parameters(), **sgd)
    for _ in range(3):
        step_by_hand(*plain, by_hand, make_batch(12), clip_norm)
    torch.testing.assert_close(cohort.state_dict(), plain[0].state_dict(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_know_nothing_of_scales(precision: str, tmp_path: Path) -> None:
    summary = trainer.train(short(precision=precision, epochs=1), tmp_path / "run", Silent())
    assert "skipped_steps" not in summary
    assert not [line for line in read_metrics(tmp_path / "run") if "skipped_steps" in line]
    assert checkpoint.read(tmp_path / "run" / "checkpoint.pt")["scaling"] == {}


def test_a_run_says_how_many_steps_it_skipped_and_keeps_students_in_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow_in({0, 3}, monkeypatch)
    display = Ends()
    summary = trainer.train(short(log_every=1), tmp_path / "run", display)
    lines = read_metrics(tmp_path / "run")
    assert [(line["kind"], line["skipped_steps"]) for line in lines] == [
        *[("interval", 1)] * 3,
        ("epoch", 1),
        *[("interval", 2)] * 3,
        ("epoch", 2),
    ]
    assert summary["skipped_steps"] == 2
    assert any(text.startswith("2 of 6 steps were skipped") for text in display.told)
    assert any(text.startswith("Warning: precision=fp16 is slow on a CPU") for text in display.told)
    assert checkpoint.read(tmp_path / "run" / "checkpoint.pt")["scaling"]["scaler"]["scale"] == 2.0**14
    saved = load_file(tmp_path / "run" / "students" / "a.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32, torch.int64}
    accuracy, _ = restore.evaluate_run(tmp_path / "run")
    assert accuracy._asdict() == summary["test_accuracy"]


@pytest.mark.parametrize("method", ["collaborative", "pcl"])
def test_an_interrupted_run_goes_on_with_its_scale_and_its_count_bit_for_bit(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = short(method=method, epochs=3)

    def run(folder: str, steps: set[int], **options: bool) -> None:
        with monkeypatch.context() as patch:
            overflow_in(steps, patch)
            trainer.train(config, tmp_path / folder, Silent(), **options)

    run("whole", {1, 4, 7})
    with killed_in_step(4):
        run("broken", {1, 4})
    run("broken", {1, 4}, resume=True)  # after three steps: these are the fifth and the eighth of the run
    whole, broken = (checkpoint.read(tmp_path / name / "checkpoint.pt") for name in ("whole", "broken"))
    assert whole["scaling"] == broken["scaling"]
    assert whole["scaling"]["skipped"] == 3
    assert first_difference(tmp_path / "broken", tmp_path / "whole") is None


@pytest.mark.parametrize("save_minutes", [10.0, 1e-9])
def test_a_loss_that_is_not_finite_is_no_overflow_of_gradients_and_stops_the_run_though_the_next_is_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_minutes: float
) -> None:
    forward, calls = Cohort.forward, []

    def infinite_once(self: Cohort, *batch: Any) -> dict[str, Tensor]:
        calls.append(1)  # the first is a dry step
        losses = forward(self, *batch)
        return {**losses, "b/ce": losses["b/ce"] * (INF if len(calls) == 6 else 1.0)}

    monkeypatch.setattr(Cohort, "forward", infinite_once)
    with pytest.raises(DivergedError, match=r"^Loss b/ce is NaN or infinite\. It was so first in epoch 2, step 5\."):
        trainer.train(short(log_every=100, epochs=3, save_minutes=save_minutes), tmp_path / "run", Silent())
    assert checkpoint.read(tmp_path / "run" / "checkpoint.pt")["steps_done"] == (3 if save_minutes > 1 else 4)


def test_gradients_that_overflow_at_every_scale_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overflow_in(set(range(10**3)), monkeypatch)
    with pytest.raises(DivergedError, match=r"however small the scale of the loss: 32 steps were skipped\. Set precis"):
        trainer.train(short(epochs=50), tmp_path / "run", Silent())
    assert read_metrics(tmp_path / "run")[-1]["skipped_steps"] == 30


def of_several(folder: Path) -> dict[str, Any]:
    """A run of several processes: in its second step the last one's gradients overflow, before they are averaged."""
    processes = join("cpu")
    forward, done, trained = Step.forward, iter(range(100)), []

    def spoiled(self: Step, *given: Any, **named: Any) -> tuple[dict[str, Tensor], Tensor]:
        trained.append(self._cohort)
        losses, total = forward(self, *given, **named)
        if next(done) == 1 and processes.rank == processes.count - 1:
            total.register_hook(lambda gradient: gradient * INF)
        return losses, total

    Step.forward = spoiled  # type: ignore[method-assign]
    summary = trainer.train(short(epochs=1, device="cpu"), folder / "run", Silent())
    Step.forward = forward  # type: ignore[method-assign]
    return {"skipped": summary["skipped_steps"], "weights": [p.detach() for p in trained[0].parameters()]}


def test_processes_skip_together_when_the_gradients_of_one_overflow(tmp_path: Path) -> None:
    one, other = together(2, of_several, tmp_path)
    assert one["skipped"] == other["skipped"] == 1
    torch.testing.assert_close(one["weights"], other["weights"], atol=0, rtol=0)
    assert all(weight.isfinite().all() for weight in one["weights"])


def test_the_benchmark_times_what_a_run_does() -> None:
    found, exact = (losses(Ours(short(precision=precision)), 2) for precision in ("fp16", "fp32"))
    assert found != exact
    assert found == pytest.approx(exact, rel=1e-2)
