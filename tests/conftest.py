"""What every test needs."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch is there

import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    """Each compiled cohort is another program: without this, the limit on recompilations of one function is reached."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
