"""What every test needs."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch is there
os.environ["COLUMNS"] = "200"  # tables are not broken where tests read them

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

LIBRARIES: list[torch.library.Library] = []  # what is declared lasts as long as these do


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded images are kept here, by processes that tests start too; never in the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def import_timm() -> ModuleType:
    """A torchvision built for CUDA cannot load its operators beside a PyTorch for CPUs. To be imported it needs to find
    two of them declared; timm calls neither."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        LIBRARIES.append(library)
    import timm

    return timm


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    """timm, for tests of students that come from it; they are skipped where it is not installed."""
    try:
        return import_timm()
    except ModuleNotFoundError:
        pytest.skip("timm is not installed")


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    """Each compiled cohort is another program: without this, the limit on recompilations of one function is reached."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
