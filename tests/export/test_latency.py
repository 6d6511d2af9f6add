"""How long a network takes to answer: what is counted, and that ONNX needs no torch for it."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_predict import codistill_without_torch
from typer.testing import CliRunner

from codistill import UserError
from codistill.cli.main import app
from codistill.export import Export
from codistill.export.latency import in_turn, latency
from codistill.export.predictor import open_predictor
from codistill.export.runtimes import open_network


class Network:
    """Takes a millisecond for an image, and a hundred more in its first call, by a clock of its own."""

    def __init__(self) -> None:
        self.seconds, self.shapes = 0.0, []

    def __call__(self, pixels: np.ndarray) -> Any:
        self.seconds += len(pixels) / 1000 + (0 if self.shapes else 0.1)
        self.shapes.append(pixels.shape)

    def now(self) -> float:
        return self.seconds


def test_calls_are_counted_one_by_one_after_a_warm_up() -> None:
    network = Network()
    found = latency(network, (12, 16), batch=2, seconds=0.2, now=network.now)
    assert (found.batch, found.calls) == (2, 100)
    assert [found.median_ms, found.low_ms, found.high_ms] == pytest.approx([2, 2, 2])
    assert set(network.shapes) == {(2, 3, 12, 16)}


def test_a_slow_network_is_called_twenty_times() -> None:
    network = Network()
    assert latency(network, (8, 8), batch=500, seconds=0.5, now=network.now).calls == 20


def test_two_networks_are_timed_in_turn() -> None:
    slow, fast = Network(), Network()

    def now() -> float:
        return 3 * slow.seconds + fast.seconds

    found = in_turn(slow, fast, (8, 8), rounds=3, seconds=0.1, now=now)
    assert found == pytest.approx((3, 1, 3, 3))


def test_an_onnx_export_is_timed_without_torch(exported: Callable[..., Export]) -> None:
    done = codistill_without_torch("latency", [exported("onnx").folder, "--batch", "3", "--seconds", "0.1", "--json"])
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["latencies"]
    assert found["batch"] == 3
    assert 0 < found["low_ms"] <= found["median_ms"] <= found["high_ms"]
    words = ["latency", str(exported("onnx").folder), "--seconds", "0.1", "--threads", "1"]
    told = CliRunner().invoke(app, words, env={"COLUMNS": "200"}).stdout
    assert told.splitlines()[0].endswith(", 1 thread")
    assert [line.split(" at a time: ")[0] for line in told.splitlines()[1:]] == ["1", "32"]
    assert "images/s" in told.splitlines()[2]


@pytest.mark.parametrize("to", ["safetensors", "torch", "onnx"])
def test_every_format_takes_the_threads_that_it_is_given(to: str, exported: Callable[..., Export]) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        answer = open_network(exported(to), trust=True, threads=2)
        assert answer(np.zeros((1, 3, 8, 8), dtype=np.float32)).shape == (1, 10)
        assert to == "onnx" or torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_export_takes_no_student(exported: Callable[..., Export]) -> None:
    with pytest.raises(UserError, match="is an export, of one network: --student is for run folders"):
        open_predictor(exported("onnx").folder, "a")
