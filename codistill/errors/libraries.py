"""The libraries that codistill uses: what is wrong with one that cannot be imported here, and how to mend it.

That a package is installed does not say that it can be imported: it may be built for another PyTorch, or lack a library
of the system. Only importing it tells. No torch in here.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from codistill.errors import UserError, first_line

# As in pyproject.toml: packages that everything but prediction by ONNX needs, and those of each extra.
REQUIRED = (
    *("torch", "numpy", "datasets", "safetensors", "scikit-learn", "scipy"),
    *("filelock", "pillow", "pydantic", "pyyaml", "rich", "typer"),
)
EXTRAS = {
    "timm": ("timm",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "report": ("jinja2", "matplotlib"),
    "distributed": ("accelerate",),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
_MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}  # where they are called otherwise
_NAMES = {"torch": "PyTorch"}
ALL = "install codistill with all that it needs: pip install -c constraints.txt -e . in its checkout"
WITHOUT_TORCH = "Only predict and latency of an ONNX export work without it."


class Fault(NamedTuple):
    """Why a package cannot be imported, and what to do."""

    package: str
    problem: str
    mend: str

    def __str__(self) -> str:
        without = f". {WITHOUT_TORCH}" if self.package == "torch" else ""
        return f"{_NAMES.get(self.package, self.package)} ({self.problem}): {self.mend}{without}"


def installed_version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def fault(package: str) -> Fault | None:
    """Imports a package; None if that succeeds."""
    try:
        import_module(_module(package))
    except Exception as error:  # what a package does when it is imported may raise anything
        return explain(package, error)
    return None


def explain(package: str, error: BaseException) -> Fault:
    """The fault behind an error that importing a package raised."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = _package_of(error.name)
        if missing == package:
            return Fault(package, "not installed", _how_to_install(package))
        return Fault(package, f"it needs {missing}, which is not installed", f"pip install {missing}")
    problem = f"it cannot be imported: {first_line(error).rstrip('.')}"
    if "torchvision" in str(error):
        return Fault(
            package,
            problem,
            "torchvision was built for another version of PyTorch, or for CUDA where PyTorch is not; install both from "
            f"the same index: {_both_from_one_index()}",
        )
    return Fault(package, problem, f"pip install --force-reinstall --no-deps {package}")


def fault_behind(error: BaseException) -> Fault | None:
    """The fault of a package of ours because of which some import failed; None where it is none of theirs."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = _package_of(error.name)
        return fault(package) if package in (*REQUIRED, *sum(EXTRAS.values(), ())) else None
    return next((found for package in REQUIRED if (found := fault(package))), None)


@contextmanager
def importing(package: str, what: str) -> Iterator[None]:
    """Around an import: raises UserError that says what needs the package, what is wrong with it, and what to do."""
    try:
        yield
    except Exception as error:
        found = fault_behind(error) if isinstance(error, ModuleNotFoundError) else None
        raise UserError(f"{what} needs {found or explain(package, error)}") from error


def _module(package: str) -> str:
    return _MODULES.get(package, package)


def _package_of(module: str) -> str:
    top = module.partition(".")[0]
    return next((package for package, own in _MODULES.items() if own == top), top)


def _how_to_install(package: str) -> str:
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    return f"pip install 'codistill[{extra}]'" if extra else ALL


def _both_from_one_index() -> str:
    """The command that keeps PyTorch as it is. Its index is in its version: 2.6.0+cpu."""
    release, _, index = (installed_version("torch") or "").partition("+")
    place = f" --index-url https://download.pytorch.org/whl/{index}" if re.fullmatch(r"cpu|cu\d+|rocm.+", index) else ""
    return f"pip install --force-reinstall torch{'==' * bool(release)}{release} torchvision{place}"
