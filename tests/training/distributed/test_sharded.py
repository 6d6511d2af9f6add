"""Sharded parameters change nothing but who keeps what: each process has a part, and no result is another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import TinyViT
from cohorts import BACKBONES, SIZE, Silent, make_batch, make_cohort, step_by_hand
from test_processes import CPU, UNEVEN, WHOLE, config, stopped_and_resumed
from together import together
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from codistill import Batch, UserError, load_student
from codistill.data.images import Images
from codistill.data.loader import EvaluationLoader
from codistill.experiments.doctor import first_difference
from codistill.methods import METHODS
from codistill.methods.reliability import Reliability
from codistill.models import MODELS
from codistill.storage.run_files import read_metrics
from codistill.training import restore, trainer
from codistill.training.amp import Scaling
from codistill.training.build import loss_names
from codistill.training.distributed.fsdp import blocks
from codistill.training.distributed.init import join
from codistill.training.distributed.process_group import ALONE, Processes
from codistill.training.evaluate import evaluate
from codistill.training.meter import DivergedError
from codistill.training.recorder import Recorder
from codistill.training.runtime import Runtime
from codistill.training.step import Step

THREE = {"a": "resnet8", "b": "cnn", "c": "still"}
ALIKE = dict.fromkeys(THREE, "resnet8")  # for methods that share a trunk
STILL = {"a": "still", "b": "still"}  # without batch normalisation: each image is seen by itself
EVERY_METHOD: dict[str, dict[str, Any]] = {
    **{method: {"models": THREE, "method": method} for method in METHODS},
    **{method: {"models": ALIKE, "method": method} for method in ("one", "clilr", "okddip", "ffsd")},
}
ROWS: dict[str, dict[str, Any]] = {
    "buffers that teach": {"models": THREE, "method": "collaborative"},
    "through targets, a shared trunk": {"models": ALIKE, "method": "okddip"},
    "averages of a shared trunk": {"models": ALIKE, "method": "pcl", "shared_trunk": True},
    "weights that are detached": {"models": THREE, "method": "afd"},
    "clean statistics": {"models": THREE, "method": "dml", "view_statistics": "clean_only"},
    "frozen layers": {"models": THREE, "method": "dml", "frozen": "students.a.backbone.stages.0."},
    "self-distillation": {"models": ALIKE, "method": "ffsd"},
    "moments and a count of steps": {"models": THREE, "method": "dml", "optimizer": "adamw"},
    "bf16": {"models": THREE, "method": "dml", "precision": "bf16", "steps": 1},
    "fp16": {"models": STILL, "method": "pcl", "precision": "fp16", "steps": 4},
}
WHOLE_BATCH: dict[str, dict[str, Any]] = {
    "peers": {"models": STILL, "method": "dml"},
    "averages": {"models": STILL, "method": "pcl"},
}
LR = 0.05
CLIP_NORM = 1.0  # below what most gradients have
SHARDED = {"sharding": "parameters"}


class Peeks(TinyViT):
    """Reads a weight of its last block without calling the block."""

    def __init__(self) -> None:
        super().__init__(8, dropout=0.0)

    def forward_head(self, x: Tensor) -> Tensor:
        return super().forward_head(x) + self.blocks[-1].linear2.bias  # type: ignore[union-attr, operator]


class Scaled(TinyViT):
    """Has a parameter that is a single number."""

    def __init__(self) -> None:
        super().__init__(8, dropout=0.0)
        self.scale = nn.Parameter(torch.ones(()))

    def forward_head(self, x: Tensor) -> Tensor:
        return self.scale * super().forward_head(x)


def one_run_of(
    processes: Processes,
    models: dict[str, str],
    method: str,
    frozen: str = "",
    precision: str = "fp32",
    steps: int = 2,
    optimizer: str = "sgd",
    **settings: Any,
) -> dict[str, Any]:
    """All weights and buffers after clipped steps with momentum, and how much of them is this process's.

    In double precision, or a ReLU that rounds to the other side of zero would hide what goes wrong.
    """
    BACKBONES.update(still=lambda: TinyViT(SIZE, dropout=0.0))
    tasks = ["rotation_only", None] if models == STILL else ["rotation", "supcon", None]
    cohort, objective = make_cohort(models, tasks, method, **settings)
    for name, parameter in cohort.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not (frozen and name.startswith(frozen)))
    runtime = Runtime(CPU, precision, side_by_side=False, processes=processes)
    dtype = torch.float64 if precision == "fp32" else torch.float32
    for module in cohort.to(dtype).modules():
        if isinstance(module, Reliability):
            module.float()  # it counts in single precision
    processes.shard(cohort, lambda: cohort.eval()(share_of(processes, 0, dtype)))
    kept = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
    updates = runtime.optimizer(cohort.train(), name=optimizer, lr=LR, weight_decay=5e-4, **kept)
    step = Step(cohort, objective, updates, runtime, CLIP_NORM)
    for number in range(steps):
        _, loss = step.forward(share_of(processes, number, dtype), 0.5)
        gathered = [name for name, parameter in cohort.named_parameters() if not isinstance(parameter, DTensor)]
        step.backward(loss)
        step.update(LR)
    processes.align(cohort)
    parameters, momenta = (
        list(cohort.parameters()),
        [value for own in updates.state.values() for value in own.values() if value.ndim],
    )
    return {
        "gathered between passes": gathered,
        "weights": {name: tensor.clone() for name, tensor in processes.whole(cohort.state_dict()).items()},
        "parameters": [(parameter.numel(), processes.own(parameter).numel()) for parameter in parameters],
        "momenta": [(momentum.numel(), processes.own(momentum).numel()) for momentum in momenta],
    }


def share_of(processes: Processes, seed: int, dtype: torch.dtype = torch.float32) -> Batch:
    share = WHOLE // processes.count
    mine = slice(processes.rank * share, (processes.rank + 1) * share)
    batch = make_batch(WHOLE, seed)
    images, *extra = (shown[mine].to(dtype) for shown in (batch.images, *batch.extra))
    return Batch(images, batch.labels[mine], tuple(extra), batch.draws[mine])  # type: ignore[index]


def evaluated_in_between(processes: Processes) -> list[Any]:
    """Accuracies of a sharded cohort before its first step and after it; of two processes, one has no images at all."""
    cohort, objective = make_cohort(THREE, ["rotation", None, None], "collaborative")
    runtime = Runtime(CPU, side_by_side=False, processes=processes)
    processes.shard(cohort, lambda: loss_names(cohort, (SIZE, SIZE), runtime))
    optimizer = runtime.optimizer(cohort, lr=LR)
    step = Step(cohort, objective, optimizer, runtime)
    found = []
    for number in range(2):
        for images in (UNEVEN, Images(UNEVEN.pixels[:1], UNEVEN.labels[:1], UNEVEN.class_names)):
            loader = EvaluationLoader(
                images, mean=[0.5] * 3, std=[0.2] * 3, rank=processes.rank, processes=processes.count, device=CPU
            )
            found.append(evaluate(cohort, loader, runtime))
        step.backward(step.forward(share_of(processes, number), 0.5)[1])
        step.update(LR)
    return found


def overflown(processes: Processes) -> tuple[int, bool]:
    """How many steps are skipped in fp16 where a gradient overflows in the part of the last process; who moved?"""
    cohort, objective = make_cohort(THREE, ["rotation", None, None], "dml")
    runtime = Runtime(CPU, "fp16", side_by_side=False, processes=processes)
    processes.shard(cohort, lambda: loss_names(cohort, (SIZE, SIZE), runtime))
    optimizer = runtime.optimizer(cohort, lr=LR)
    scaling = Scaling(optimizer, runtime)
    step = Step(cohort, objective, optimizer, runtime, scaling=scaling)
    before = [processes.own(parameter.detach()).clone() for parameter in cohort.parameters()]
    step.backward(1e-4 * step.forward(share_of(processes, 0), 0.5)[1])  # so small that nothing else overflows
    if not processes.main:
        gradient = cohort.students["a"].classifier.weight.grad  # type: ignore[union-attr]
        processes.own(gradient)[-1, -1] = torch.inf  # type: ignore[arg-type]
    step.update(LR)
    moved = any(
        not torch.equal(processes.own(now.detach()), then)
        for now, then in zip(cohort.parameters(), before, strict=True)
    )
    return scaling.figures()["skipped_steps"], moved


def spoilt(folder: Path) -> str:
    """What a run says when after an epoch's last step a weight is infinite in the part of the last process."""
    after_epoch = Recorder.after_epoch

    def with_a_bad_weight(self: Recorder, epoch: int) -> None:
        if not self._processes.main:
            self._processes.own(self._cohort.students["b"].classifier.weight.detach())[-1] = torch.inf  # type: ignore[arg-type]
        after_epoch(self, epoch)

    Recorder.after_epoch = with_a_bad_weight  # type: ignore[method-assign]
    try:
        trainer.train(config(**SHARDED), folder / "spoilt", Silent())
    except DivergedError as error:
        return str(error)
    finally:
        Recorder.after_epoch = after_epoch  # type: ignore[method-assign]
    return "nothing"


def errors_of(folder: Path) -> list[str]:
    """What is said of what cannot be sharded."""
    MODELS.update(peeks=Peeks, scaled=Scaled)  # type: ignore[call-overload]
    said = []
    poison = {"student": "b", "reinitialise": 0.5}
    wrong: list[dict[str, Any]] = [
        {"compile": True},
        {"students": ["peeks", "still"]},
        {"students": ["still", "scaled"]},
    ]
    for changes in (*wrong, {"poison": poison}):
        try:
            trainer.train(config(**SHARDED, **changes), folder / "refused", Silent())
        except UserError as error:
            said.append(str(error))
    return said


def steps_of(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Some steps of each row, as shards and by data parallelism."""
    kinds = {"sharded": join("cpu", "parameters"), "plain": join("cpu")}
    return {kind: {name: one_run_of(them, **row) for name, row in rows.items()} for kind, them in kinds.items()}


def everything(folder: Path) -> dict[str, Any]:
    """All that the tests below look at, from one start of the processes."""
    plain, sharded = join("cpu"), join("cpu", "parameters")
    own = folder if plain.main else folder / f"of process {plain.rank}"
    return {
        **steps_of(ROWS),
        "alone": {name: one_run_of(sharded, **row) for name, row in WHOLE_BATCH.items()},
        "evaluated": evaluated_in_between(sharded),
        "plainly evaluated": evaluated_in_between(plain),
        "summary": trainer.train(config(**SHARDED), own / "sharded", Silent()),
        "plain summary": trainer.train(config(), own / "plain", Silent()),
        "stopped": stopped_and_resumed(own, plain, method="collaborative", epochs=1, optimizer="adamw", **SHARDED)[0],
        "spoilt": spoilt(own),
        "overflown": overflown(sharded),
        "errors": errors_of(own),
    }


@pytest.fixture(scope="module", autouse=True)
def _forget_the_models() -> Iterator[None]:
    """Those that were added here are nobody else's."""
    yield
    for table in (BACKBONES, MODELS):
        for name in ("still", "drops", "peeks", "scaled"):
            table.pop(name, None)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    folder = tmp_path_factory.mktemp("sharded")
    return together(2, everything, folder), folder


def check_weights(found: dict[str, Any], row: str) -> None:
    tolerance = 1e-4 if row in ("bf16", "fp16") else 1e-7
    sharded, plain = (found[kind][row]["weights"] for kind in ("sharded", "plain"))
    torch.testing.assert_close(sharded, plain, atol=tolerance, rtol=0)


@pytest.mark.parametrize("row", ROWS)
def test_steps_are_those_of_data_parallelism(both: tuple[list[Any], Path], row: str) -> None:
    check_weights(both[0][0], row)


@pytest.mark.slow
def test_steps_of_every_method_are_those_of_data_parallelism() -> None:
    found = together(2, steps_of, EVERY_METHOD)
    for method in METHODS:
        check_weights(found[0], method)


@pytest.mark.parametrize("row", WHOLE_BATCH)
def test_steps_are_those_of_one_process_with_the_whole_batch(both: tuple[list[Any], Path], row: str) -> None:
    BACKBONES.update(still=lambda: TinyViT(SIZE, dropout=0.0))
    cohort, objective = make_cohort(STILL, ["rotation_only", None], WHOLE_BATCH[row]["method"])
    cohort.double()
    plain = torch.optim.SGD(cohort.parameters(), LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for number in range(2):
        step_by_hand(cohort, objective, plain, share_of(ALONE, number, torch.float64), CLIP_NORM)
    torch.testing.assert_close(both[0][0]["alone"][row]["weights"], cohort.state_dict(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("row", ROWS)
def test_each_process_has_its_part_of_every_weight_and_momentum(both: tuple[list[Any], Path], row: str) -> None:
    one, other = (found["sharded"][row] for found in both[0])
    for kind in ("parameters", "momenta"):
        assert one[kind]
        for (whole, first), (_, second) in zip(one[kind], other[kind], strict=True):
            assert first + second == whole, "nothing twice, nothing left out"
        share = sum(first for _, first in one[kind]) / sum(whole for whole, _ in one[kind])
        assert 0.5 <= share < 0.6, "rows that two do not divide are the first one's"


@pytest.mark.parametrize("row", ROWS)
def test_between_forward_and_backward_blocks_are_given_up(both: tuple[list[Any], Path], row: str) -> None:
    gathered = both[0][0]["sharded"][row]["gathered between passes"]
    assert "students.a.classifier.weight" in gathered
    assert not [name for name in gathered if ".stages.0." in name and ".a." in name], "blocks of the residual network"


def test_a_cohort_is_evaluated_whole_before_and_between_steps_by_processes_with_unequal_batches(
    both: tuple[list[Any], Path],
) -> None:
    for found in both[0]:
        assert found["evaluated"] == both[0][0]["plainly evaluated"]


def test_a_sharded_run_is_the_plain_run(both: tuple[list[Any], Path]) -> None:
    results, folder = both
    for line, same in zip(read_metrics(folder / "sharded"), read_metrics(folder / "plain"), strict=True):
        assert line["losses"] == pytest.approx(same["losses"], abs=1e-4)
        assert line.get("validation_accuracy") == same.get("validation_accuracy")
    assert results[0]["summary"]["test_accuracy"] == results[0]["plain summary"]["test_accuracy"]
    assert results[0]["summary"]["parameters"] == results[0]["plain summary"]["parameters"]


def test_its_files_are_whole_and_one_process_reads_them(both: tuple[list[Any], Path]) -> None:
    results, folder = both
    config()  # knows the models
    sharded, plain = (torch.load(folder / name / "checkpoint.pt") for name in ("sharded", "plain"))
    torch.testing.assert_close(sharded["cohort"], plain["cohort"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(sharded["optimizer"]["state"], plain["optimizer"]["state"], atol=1e-4, rtol=1e-3)
    student, _ = load_student(folder / "sharded" / "students" / "a.safetensors")
    own = {name.removeprefix("students.a."): tensor for name, tensor in sharded["cohort"].items()}
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, own[name])
    accuracy, summary = restore.evaluate_run(folder / "sharded")
    assert accuracy._asdict() == summary["test_accuracy"] == results[0]["summary"]["test_accuracy"]


def test_a_stopped_sharded_run_goes_on_exactly(both: tuple[list[Any], Path]) -> None:
    results, folder = both
    assert [found["stopped"] for found in results] == ["Stopped by SIGTERM in epoch 1, after step 4."] * 2
    assert first_difference(folder / "whole", folder / "stopped") is None


def test_gradients_that_overflow_in_one_part_are_skipped_by_all(both: tuple[list[Any], Path]) -> None:
    assert [found["overflown"] for found in both[0]] == [(1, False)] * 2


def test_a_weight_that_is_not_finite_in_one_part_ends_all(both: tuple[list[Any], Path]) -> None:
    for found in both[0]:
        assert found["spoilt"].startswith("A weight of 'b' is NaN or infinite.")
    assert not (both[1] / "spoilt" / "checkpoint.pt").exists()


def test_what_cannot_be_sharded_is_refused_before_training(both: tuple[list[Any], Path]) -> None:
    for found in both[0]:
        compiled, peeks, scaled, poisoned = found["errors"]
        assert "poison.reinitialise does not go with sharding=parameters" in poisoned
        assert "compile=true does not go with sharding=parameters" in compiled
        assert "one reads the weights of a block without calling the block" in peeks
        assert "cannot divide the parameter 'students.scaled.backbone.scale'" in scaled
    assert not (both[1] / "refused").exists()


def test_one_process_has_nobody_to_share_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="divides them among several processes; there is one"):
        trainer.train(config(**SHARDED), tmp_path / "run", Silent())


def test_a_launcher_that_asks_for_fsdp_is_told_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="Set sharding=parameters instead"):
        join("cpu")


def test_blocks_are_elements_made_of_modules_inner_ones_first_and_none_twice() -> None:
    shared = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    inner = nn.Sequential(nn.Linear(2, 2))
    stage = nn.Sequential(inner, nn.Linear(2, 2))
    module = nn.ModuleDict({"a": nn.ModuleList([shared, stage]), "b": nn.ModuleList([shared, nn.Linear(2, 2)])})
    assert list(blocks(module)) == [shared, inner, stage]
