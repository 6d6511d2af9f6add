"""Training on several processes is training on one: what each does, what they agree on, and who writes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import TinyViT
from cohorts import BACKBONES, SIZE, Silent, gradients, make_batch, make_cohort
from together import together
from torch import Tensor

from codistill import Batch, UserError
from codistill.config.schema import RunConfig, make_config
from codistill.data.images import Images
from codistill.data.loader import EvaluationLoader, TrainLoader
from codistill.data.transforms.crop import PaddedCrop
from codistill.experiments.doctor import first_difference
from codistill.models import MODELS
from codistill.storage.checkpoint import read
from codistill.storage.run_files import read_config, read_metrics
from codistill.training import time_budget, trainer
from codistill.training.distributed.init import join
from codistill.training.distributed.launcher import is_main
from codistill.training.distributed.process_group import ALONE, Processes
from codistill.training.evaluate import Accuracy, evaluate
from codistill.training.meter import DivergedError, Meter
from codistill.training.recorder import Recorder
from codistill.training.runtime import Runtime, synchronise_batchnorm
from codistill.training.signals import Stopped
from codistill.training.step import Step

CPU = torch.device("cpu")
WHOLE = 12  # images of a batch; two and three processes can share them
LEFT = torch.Generator().manual_seed(0)
PIXELS = torch.randint(0, 256, (101, SIZE, SIZE, 3), dtype=torch.uint8, generator=LEFT)
UNEVEN = Images(PIXELS, torch.randint(0, 5, (101,), generator=LEFT), tuple("abcde"))  # neither 2 nor 3 divide 101
CROP = PaddedCrop((PIXELS.shape[1], PIXELS.shape[2]), 2, flip=True)


def config(**changes: Any) -> RunConfig:
    """Students without batch normalisation, whose losses are means over images: processes change no number."""
    BACKBONES.update(still=lambda: TinyViT(SIZE, dropout=0.0))
    MODELS.update(still=lambda: TinyViT(8, dropout=0.0), drops=lambda: TinyViT(8))  # type: ignore[call-overload]
    given = {
        "students": {"a": "still", "b": "still"},
        "tasks": ["rotation_only", "none"],
        "method": "dml",
        "data": {"name": "digits", "per_class": 10, "validation": 0.1},
        "batch_size": WHOLE,
        "epochs": 3,
        "log_every": 2,
        "device": "cpu",
        "side_by_side": "auto",
        "optimizer": {"lr": 0.05},
    }
    return make_config({**given, **changes})


def one_step(processes: Processes) -> dict[str, Tensor]:
    """The gradients of one step, each process having its share of one batch."""
    config()
    cohort, objective = make_cohort({"a": "still", "b": "still"}, ["rotation_only", None], "dml")
    runtime = Runtime(CPU, side_by_side=False, processes=processes)
    step = Step(cohort, objective, runtime.optimizer(cohort, lr=0.1), runtime)
    share = WHOLE // processes.count
    mine = slice(processes.rank * share, (processes.rank + 1) * share)
    batch = make_batch(WHOLE)
    batch = Batch(batch.images[mine], batch.labels[mine], tuple(x[mine] for x in batch.extra), batch.draws[mine])  # type: ignore[index]
    for _ in range(2):  # a parameter left out in the first step raises in the second
        step.backward(step.forward(batch, 0.5)[1])
    return gradients(cohort)


def counted(processes: Processes, images: Images) -> Accuracy:
    cohort, _ = make_cohort({"a": "resnet8", "b": "cnn"})
    for buffer in cohort.buffers():  # as if each process had seen other images
        buffer.add_(processes.rank)
    loader = EvaluationLoader(
        images, mean=[0.5] * 3, std=[0.2] * 3, rank=processes.rank, processes=processes.count, device=CPU
    )
    return evaluate(cohort, loader, Runtime(CPU, processes=processes))


def diverged(processes: Processes) -> str:
    """What each process says when a loss is no longer finite in the last one."""
    meter = Meter(processes)
    last = processes.rank == processes.count - 1
    meter.update({"a": torch.tensor(1.0), "b": torch.tensor(float("nan") if last else 1.0), "total": torch.tensor(1.0)})
    try:
        meter.read()
    except DivergedError as error:
        return str(error)
    return "nothing"


def stopped_and_resumed(folder: Path, processes: Processes, **changes: Any) -> list[Any]:
    """A run in which the last process is asked to stop; then it is gone on with. Dropout makes randomness matter."""
    changed = config(students=["drops", "still"], batch_size=WHOLE, log_every=2, **changes)
    after_step = Recorder.after_step

    def asked(self: Recorder, epoch: int, step: int, *rest: Any) -> None:
        if step == 2 and processes.rank == processes.count - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        after_step(self, epoch, step, *rest)

    trainer.train(changed, folder / "whole", Silent())
    Recorder.after_step = asked  # type: ignore[method-assign]
    said = "nothing"
    try:
        trainer.train(changed, folder / "stopped", Silent())
    except Stopped as stopped:
        said = str(stopped)
    Recorder.after_step = after_step  # type: ignore[method-assign]
    dropout = torch.get_rng_state().sum().item()
    trainer.train(changed, folder / "stopped", Silent(), resume=True)
    return [said, dropout]


def in_time(folder: Path, processes: Processes) -> int:
    """How many epochs each process trained where their clocks say different things."""
    time_budget.epochs_in_time = lambda *_: 2 + processes.rank
    after_epoch, epochs = Recorder.after_epoch, []

    def counted(self: Recorder, epoch: int) -> None:
        epochs.append(epoch)
        after_epoch(self, epoch)

    Recorder.after_epoch = counted  # type: ignore[method-assign]
    trainer.train(config(), folder / "in time", Silent(), minutes=5)
    Recorder.after_epoch = after_epoch  # type: ignore[method-assign]
    return len(epochs)


def errors_of(folder: Path, processes: Processes) -> list[str]:
    """What each process says of what cannot be."""
    said = []
    calls = [
        lambda: trainer.train(config(batch_size=WHOLE + 1), folder / "uneven", Silent()),
        lambda: trainer.train(config(side_by_side=True), folder / "threads", Silent()),
        lambda: trainer.train(config(device="cuda:1"), folder / "gpu", Silent()),
        lambda: trainer.train(config(), folder / "run", Silent()),  # finished before
        lambda: processes.together(lambda: _refuses_in(processes.count - 1, processes)),
    ]
    for call in calls:
        try:
            call()
        except UserError as error:
            said.append(str(error))
    return said


def _refuses_in(rank: int, processes: Processes) -> None:
    if processes.rank == rank:
        raise UserError("No data here.")


def everything(folder: Path) -> dict[str, Any]:
    """All that the tests below look at, from one start of the processes: starting them is what takes time."""
    processes = join("cpu")
    own = folder if processes.main else folder / f"of process {processes.rank}"  # nobody but the main one may write
    return {
        "gradients": one_step(processes),
        "uneven": counted(processes, UNEVEN),
        "few": counted(processes, Images(UNEVEN.pixels[:1], UNEVEN.labels[:1], UNEVEN.class_names)),
        "diverged": diverged(processes),
        "summary": trainer.train(config(), own / "run", Silent()),
        "stopped": stopped_and_resumed(own, processes) if processes.count == 2 else None,
        "in time": in_time(own, processes),
        "errors": errors_of(own, processes),
        "is_main": is_main(),
    }


@pytest.fixture(scope="module", autouse=True)
def _forget_the_models() -> Iterator[None]:
    """Those that ``config`` adds are nobody else's."""
    yield
    for table, names in ((BACKBONES, ("still",)), (MODELS, ("still", "drops"))):
        for name in names:
            table.pop(name, None)


@pytest.fixture(scope="module", params=[2, 3])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    folder = tmp_path_factory.mktemp("several")
    return together(request.param, everything, folder), folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, _forget_the_models: None) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    trainer.train(config(), run, Silent())
    return run


def test_processes_have_the_gradients_of_one_process_with_the_whole_batch(several: tuple[list[Any], Path]) -> None:
    expected = one_step(ALONE)
    for found in several[0]:
        torch.testing.assert_close(found["gradients"], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["gradients"], several[0][0]["gradients"], atol=0, rtol=0)


def test_a_run_of_several_processes_is_the_run_of_one(several: tuple[list[Any], Path], alone: Path) -> None:
    found, expected = read_metrics(several[1] / "run"), read_metrics(alone)
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for line, same in zip(found, expected, strict=True):
        assert line["losses"] == pytest.approx(same["losses"], abs=1e-4)
        assert line.get("validation_accuracy") == same.get("validation_accuracy")
    summary = several[0][0]["summary"]
    assert summary["test_accuracy"] == trainer.run_files.read_summary(alone)["test_accuracy"]
    assert summary["processes"] == len(several[0])


def test_each_image_is_counted_once_by_the_statistics_of_the_main_process(several: tuple[list[Any], Path]) -> None:
    assert [found["uneven"] for found in several[0]] == [counted(ALONE, UNEVEN)] * len(several[0])


def test_processes_that_have_no_images_to_evaluate_wait_for_those_that_have(several: tuple[list[Any], Path]) -> None:
    one = Images(UNEVEN.pixels[:1], UNEVEN.labels[:1], UNEVEN.class_names)
    assert [found["few"] for found in several[0]] == [counted(ALONE, one)] * len(several[0])


def test_a_loss_that_is_not_finite_in_one_process_ends_all_by_its_name(several: tuple[list[Any], Path]) -> None:
    assert [found["diverged"] for found in several[0]] == ["Loss b is NaN or infinite."] * len(several[0])


def test_only_the_main_process_writes(several: tuple[list[Any], Path]) -> None:
    expected = {"run", "in time", *(("whole", "stopped") if len(several[0]) == 2 else ())}
    assert {path.name for path in several[1].iterdir()} == expected
    assert [found["is_main"] for found in several[0]] == [True] + [False] * (len(several[0]) - 1)


def test_what_one_process_finds_wrong_all_say(several: tuple[list[Any], Path]) -> None:
    for found in several[0]:
        uneven, threads, gpu, finished, elsewhere = found["errors"]
        assert f"Choose a multiple of {len(several[0])}" in uneven
        assert "side_by_side=true is for one process" in threads
        assert "device=cuda:1 is one device" in gpu
        assert "already holds a finished run" in finished
        assert elsewhere == "No data here."


@pytest.mark.parametrize("several", [2], indirect=True)
def test_all_stop_at_the_step_in_which_one_is_asked_and_go_on_exactly(several: tuple[list[Any], Path]) -> None:
    results, folder = several
    # Asked in the third step; they ask each other every second one.
    assert [found["stopped"][0] for found in results] == ["Stopped by SIGTERM in epoch 1, after step 4."] * 2
    assert results[0]["stopped"][1] != results[1]["stopped"][1], "both drop the same"
    assert first_difference(folder / "whole", folder / "stopped") is None


@pytest.mark.parametrize("several", [2], indirect=True)
def test_a_run_is_gone_on_with_by_as_many_processes_as_before(several: tuple[list[Any], Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(several[1] / "stopped", run)
    (run / "summary.json").unlink()
    assert len(read(run / "checkpoint.pt")["other_processes"]) == 1
    with pytest.raises(UserError, match="was trained by 2 processes, now there are 1"):
        trainer.train(config(students=["drops", "still"]), run, Silent(), resume=True)


def test_the_clock_of_the_main_process_says_how_many_epochs_fit(several: tuple[list[Any], Path]) -> None:
    assert [found["in time"] for found in several[0]] == [2] * len(several[0])
    assert read_config(several[1] / "in time")["epochs"] == 2


@pytest.mark.parametrize(("processes", "order"), [(2, "shuffled"), (3, "shuffled"), (3, "class_pairs")])
def test_the_parts_of_the_processes_are_the_batches_of_one(processes: int, order: str) -> None:
    def batches(rank: int, of: int) -> list[Batch]:
        loader = TrainLoader(
            UNEVEN,
            batch_size=WHOLE,
            mean=[0.5] * 3,
            std=[0.2] * 3,
            crop=CROP,
            seed=0,
            augmentations=2,
            order=order,
            rank=rank,
            processes=of,
        )
        return list(loader.epoch(1, 2))

    expected = batches(0, 1)
    parts = [batches(rank, processes) for rank in range(processes)]
    for number, whole in enumerate(expected):
        shares = [part[number] for part in parts]
        assert {len(share.labels) for share in shares} == {WHOLE // processes}
        assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
        assert torch.equal(torch.cat([share.extra[0] for share in shares]), whole.extra[0])
        assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)
        assert torch.equal(torch.cat([share.draws for share in shares]), whole.draws)  # type: ignore[arg-type, misc]
        for share in shares if order == "class_pairs" else []:
            assert torch.equal(share.labels[::2], share.labels[1::2])


def test_pairs_of_a_class_need_an_even_part() -> None:
    settings = {"batch_size": 12, "mean": [0.5] * 3, "std": [0.2] * 3, "crop": CROP, "seed": 0}
    with pytest.raises(UserError, match="even batch_size in each process, got 3"):
        TrainLoader(UNEVEN, order="class_pairs", processes=4, **settings)  # type: ignore[arg-type]


def test_several_processes_without_accelerate_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UserError, match=r"pip install 'codistill\[distributed\]'"):
        join("cpu")


def test_one_process_does_not_import_accelerate() -> None:
    code = "import sys, codistill.training.trainer as r; from codistill.training.distributed.init import join; "
    code += "join('cpu'); sys.exit('accelerate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_synchronised_batch_normalisation_is_refused_on_a_cpu() -> None:
    with pytest.raises(UserError, match="sync_batchnorm=true needs CUDA"):
        Runtime(CPU, sync_batchnorm=True)


def test_a_layer_of_a_shared_trunk_is_synchronised_once_and_stays_shared() -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "resnet8"}, ["rotation", "rotation"], method="one")
    before = set(cohort.state_dict())
    a, b = (student.backbone for student in cohort.students.values())
    assert a.bn is b.bn
    synchronise_batchnorm(cohort)
    assert a.bn is b.bn
    assert isinstance(a.bn, torch.nn.SyncBatchNorm)
    assert a.stages[1] is b.stages[1]
    assert not any(type(module) is torch.nn.BatchNorm2d for module in cohort.modules())
    assert set(cohort.state_dict()) == before


LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LEARN = ["method=collaborative", "tasks=jigsaw"]
TRAIN = ["-m", "codistill", "train", *LEARN, "data.per_class=20", "batch_size=20", "log_every=1", "device=cpu"]


def launched(run: Path, sharding: str, *options: str) -> "subprocess.Popen[str]":
    words = [*LAUNCH, *options, *TRAIN, "epochs=12", f"sharding={sharding}", f"run={run}"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def workers(launcher: int) -> list[int]:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(child) for child in children if b"codistill" in Path(f"/proc/{child}/cmdline").read_bytes()]


def epochs_done(run: Path) -> int:
    return (run / "metrics.jsonl").read_text().count('"kind": "epoch"') if (run / "metrics.jsonl").exists() else 0


def kill_one(job: "subprocess.Popen[str]", run: Path, victim: int) -> None:
    while epochs_done(run) < 3:
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.05)
    os.kill(workers(job.pid)[victim], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
@pytest.mark.parametrize(("victim", "sharding"), [(0, "none"), (1, "none"), (1, "parameters")])
def test_a_killed_worker_ends_the_job_and_a_restarted_one_goes_on_exactly(
    tmp_path: Path, victim: int, sharding: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    job = launched(whole, sharding)
    assert job.wait() == 0, job.communicate()[0]
    job = launched(killed, sharding)
    kill_one(job, killed, victim)
    said = job.communicate()[0]
    assert job.returncode != 0
    assert "SIGKILL" in said
    assert not (killed / "summary.json").exists()

    job = launched(tmp_path / "restarted", sharding, "--max-restarts", "1")
    kill_one(job, tmp_path / "restarted", victim)
    said = job.communicate()[0]
    assert job.returncode == 0, said
    assert first_difference(whole, tmp_path / "restarted") is None
