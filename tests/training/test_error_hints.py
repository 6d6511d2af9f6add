"""What cannot be compiled: where nobody asked for it training goes on without, elsewhere it says what is missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import gradients, make_batch, make_cohort
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.exc import InvalidCxxCompiler

from codistill import Cohort
from codistill.training.error_hints import Uncompilable
from codistill.training.runtime import Runtime
from codistill.training.step import Step

TWO = {"a": "cnn", "b": "vit"}  # which draws random numbers
CPU = torch.device("cpu")
Backend = Callable[..., Any]


def missing(*given: object) -> Any:
    raise InvalidCxxCompiler


def runs_as_it_is(graph: torch.fx.GraphModule, inputs: object) -> Any:
    return make_boxed_func(graph.forward)


FAILS_IN = {
    "forward": missing,
    "backward": aot_autograd(fw_compiler=runs_as_it_is, bw_compiler=missing),
}
WORKS = aot_autograd(fw_compiler=runs_as_it_is, bw_compiler=runs_as_it_is)


class Compiling(Runtime):
    """Compiles whenever it may, as on a GPU, by this backend."""

    backend: Backend

    def compiled(self, cohort: Cohort) -> nn.Module:
        return torch.compile(cohort, fullgraph=True, backend=self.backend)  # type: ignore[return-value]


def two_steps(backend: Backend | None, compile: Any = "auto") -> tuple[dict[str, Tensor], list[str]]:
    """Losses, gradients and buffers after two steps, and the warnings."""
    cohort, objective = make_cohort(TWO, method="dml")
    runtime = Runtime(CPU) if backend is None else Compiling(CPU, compile=compile)
    if backend is not None:
        Compiling.backend = staticmethod(backend)  # type: ignore[assignment]
    warnings: list[str] = []
    step = Step(cohort, objective, runtime.optimizer(cohort, lr=0.1), runtime, warn=warnings.append)
    for number in range(2):
        losses, total = step.forward(make_batch(seed=number), 0.5)
        step.backward(total)
        step.update(0.1)
    return {**losses, **gradients(cohort), **dict(cohort.named_buffers())}, warnings


@pytest.mark.parametrize("fails_in", FAILS_IN)
def test_what_nobody_asked_to_compile_is_trained_without_to_the_same_numbers_and_one_warning(fails_in: str) -> None:
    found, warnings = two_steps(FAILS_IN[fails_in])
    expected, _ = two_steps(None)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)
    (warning,) = warnings
    assert warning.startswith("compile=auto: nothing is compiled here, so steps are slower.")
    assert "No working C++ compiler found" in warning
    assert "Compiling needs a C++ compiler, such as g++" in warning


def test_what_can_be_compiled_is_trained_without_a_warning() -> None:
    assert two_steps(WORKS)[1] == []


@pytest.mark.parametrize("fails_in", FAILS_IN)
def test_what_was_asked_to_be_compiled_and_cannot_is_an_error_that_says_what_is_missing(fails_in: str) -> None:
    with pytest.raises(Uncompilable, match=r"PyTorch says: No working C\+\+ compiler found in .*\. Compiling needs"):
        two_steps(FAILS_IN[fails_in], compile=True)


def test_an_error_that_is_not_the_compilers_is_left_as_it_is() -> None:
    cohort, objective = make_cohort(TWO, method="dml")
    step = Step(cohort, objective, Runtime(CPU).optimizer(cohort, lr=0.1), Runtime(CPU))
    with pytest.raises(RuntimeError, match="expected input"):
        step.forward(make_batch()._replace(images=torch.randn(6, 4, 16, 16)), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("lacks", [{"CXX": "/nonexistent"}, {"PATH": "/nonexistent"}], ids=["CXX", "PATH"])
@pytest.mark.parametrize("command", ["train", "bench"])
def test_without_a_cpp_compiler_a_command_says_so_in_one_line(
    command: str, lacks: dict[str, str], tmp_path: Path
) -> None:
    words = ["data=synthetic", "data.image_size=8", "epochs=1", "compile=true", "tasks=none", "method=dml"]
    ended = subprocess.run(
        [sys.executable, "-m", "codistill", command, *words],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled"), **lacks},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    said = ended.stderr.strip().splitlines()[-1]
    assert "Cannot be compiled: PyTorch says: No working C++ compiler found" in said
    assert "compile=false" in said
