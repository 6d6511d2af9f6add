"""Timing of configurations: what is compared, and what comes out."""

import json
import os
from itertools import islice

import pytest
import torch
from typer.testing import CliRunner

from codistill.cli.main import app
from codistill.config.schema import RunConfig, make_config
from codistill.core.forward import one_by_one
from codistill.data.images import Images
from codistill.errors import UserError
from codistill.experiments.bench.bench import LIBGOMP_SPINS, Worker, bench
from codistill.experiments.bench.loops import Ours, PilImages, Plain
from codistill.experiments.bench.worker import PARTS, losses

SMALL = {
    "students": ["resnet8", "resnet8"],
    "tasks": "jigsaw",
    "method": "collaborative",
    "data": {"name": "synthetic", "image_size": 8, "classes": 4},
    "batch_size": 8,
}


def config(**given: object) -> RunConfig:
    return make_config({**SMALL, **given})


@pytest.mark.parametrize(
    "given",
    [
        {"method": "dml", "tasks": "none"},
        {"tasks": ["rotation", "jigsaw"]},  # draws
        {"method": "kdcl", "tasks": ["simclr", "none"]},  # augmentations of their own, and a second view
        {"method": "ffl", "tasks": "none"},  # a ramp
        {"method": "dml", "optimizer": {"clip_norm": 0.05}},
    ],
    ids=str,
)
def test_both_loops_do_the_same_work(given: dict[str, object]) -> None:
    assert losses(Ours(config(**given)), 3) == pytest.approx(losses(Plain(config(**given)), 3), rel=1e-3)


def test_the_plain_loop_is_plain() -> None:
    loop = Plain(config(compile=True, precision="bf16"))
    assert loop.experiment.cohort.look is one_by_one
    batch = next(loop.batches())
    assert batch.images.is_contiguous()
    assert loop.forward(batch).dtype == torch.float32
    convolution = next(m for m in loop.experiment.cohort.modules() if isinstance(m, torch.nn.Conv2d))
    assert convolution.weight.is_contiguous()


def test_batches_of_both_loops_go_on_beyond_an_epoch() -> None:
    for loop in (Ours(config(batch_size=64)), Plain(config(batch_size=64))):
        assert len(loop.experiment.train_images) < 2 * 64
        assert [len(batch.labels) for batch in islice(loop.batches(), 3)] == [64, 64, 64]


def test_pil_crops_are_padded_with_black_and_flipped() -> None:
    pixels = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    pixels[0, :, 0] = 255
    images = PilImages(Images(pixels, torch.tensor([1]), ("a", "b")), [0.0] * 3, [1.0] * 3, 0, True, 20)
    views, label = images[0]
    assert label == 1
    columns = {int(view[0, 0].argmax()) for view in views}
    assert columns == {0, 3}


def test_a_bench_gives_speeds_parts_memory_and_ratios() -> None:
    result = bench(config(method="dml", tasks="none"), against_naive=True, rounds=2, steps=1, load=1)
    assert set(result["step_ms"]) == set(PARTS) == {"input", "forward", "backward", "optimizer"}
    assert result["images_per_second"] > 0
    assert result["student_images_per_second"] == pytest.approx(2 * result["images_per_second"], rel=0.01)
    assert result["peak_memory_bytes"] > 1e7
    assert result["ratio"]["min"] <= result["ratio"]["median"] <= result["ratio"]["max"]
    assert result["loss_difference"] < 1e-3
    assert result["naive"]["images_per_second"] > 0
    assert result["first_ratio"] in ("ratio", "cpu_ratio")
    assert all(loop["other_work_cores"] is None or loop["other_work_cores"] >= 0 for loop in (result, result["naive"]))


def test_what_the_user_can_mend_comes_back_from_the_other_process() -> None:
    with pytest.raises(UserError, match="batch_size=100000 is larger than the training data"):
        bench(config(batch_size=100_000), rounds=1, steps=1)


def test_bench_prints_json_that_names_its_configuration() -> None:
    words = ["data=synthetic", "data.image_size=8", "batch_size=8", "method=dml", "tasks=none"]
    found = CliRunner().invoke(app, ["bench", *words, "--rounds", "1", "--steps", "1", "--json"])
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert result["config"]["method"]["name"] == "dml"
    assert result["rounds"] == 1


@pytest.mark.parametrize("before", [None, "100"])
def test_a_plain_loop_that_does_not_start_leaves_the_environment_as_it_was(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if before is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", before)
    inherited = []

    def start(self: Worker, kind: str, config: RunConfig) -> None:
        inherited.append(os.environ.get("GOMP_SPINCOUNT"))
        if kind == "naive":
            raise UserError("not enough memory")

    monkeypatch.setattr(Worker, "__init__", start)
    monkeypatch.setattr(Worker, "close", lambda self: None)
    with pytest.raises(UserError, match="not enough memory"):
        bench(config(), against_naive=True)
    assert inherited == [before, LIBGOMP_SPINS]
    assert os.environ.get("GOMP_SPINCOUNT") == before
