"""What every test needs."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch is there

import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images are kept here, by processes that tests start too; never in the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    """Each compiled cohort is another program: without this, the limit on recompilations of one function is reached."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
