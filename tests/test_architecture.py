"""Which room of the package may import which. docs/architecture.md draws them; here the order holds."""

import ast
from pathlib import Path

import pytest

import codistill

PACKAGE = Path(codistill.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ROOT = {"__init__", "__main__", "errors"}  # what lies at the root of the package, besides the rooms

# room -> the rooms that it may import, besides itself and errors. No room imports one that stands below it.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "core": set(),
    "metrics": set(),
    "storage": {"metrics"},
    "models": {"core", "storage"},
    "tasks": {"core"},
    "data": {"core", "storage"},
    "methods": {"core", "tasks"},
    "config": {"core", "models", "tasks", "methods", "storage"},
    "training": {"core", "metrics", "storage", "models", "tasks", "data", "methods", "config"},
    "export": {"core", "storage", "models", "data", "methods", "config", "training"},
    "evaluation": {"core", "metrics", "storage", "models", "data", "methods", "config", "training"},
    "experiments": {
        "core",
        "storage",
        "models",
        "tasks",
        "data",
        "methods",
        "config",
        "training",
        "export",
        "evaluation",
    },
    "cli": {
        "core",
        "metrics",
        "storage",
        "models",
        "tasks",
        "data",
        "methods",
        "config",
        "training",
        "export",
        "evaluation",
    }
    | {"experiments"},
    "__init__": {"core", "config", "training", "models"},
    "__main__": {"cli"},
}


def room_of(path: Path) -> str:
    """``core`` for codistill/core/losses/kl.py, ``__main__`` for codistill/__main__.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules.add(node.module or "")
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def rooms_imported(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports_of(path) if name.startswith("codistill.")}
    return names - {"__version__"}


def test_the_root_of_the_package_holds_its_rooms_and_nothing_else() -> None:
    assert {room_of(path) for path in FILES} == set(ALLOWED)
    assert {path.stem for path in PACKAGE.glob("*.py")} <= ROOT


def test_no_room_imports_upward() -> None:
    order = list(ALLOWED)
    for room, allowed in ALLOWED.items():
        if room not in ROOT:
            assert {order.index(other) < order.index(room) for other in allowed} <= {True}, room


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(path)
    forbidden = rooms_imported(path) - ALLOWED[room] - {room, "errors"}
    assert not forbidden, f"{path} may not import {sorted(forbidden)}"


@pytest.mark.parametrize(
    ("library", "only_in"),
    [
        ("timm", ("models/timm_models.py", "export/torch_runtime.py")),
        ("onnx", "export/write.py"),
        ("onnxruntime", ("export/int8.py", "export/runtimes.py")),
        ("accelerate", ("training/distributed/ddp.py", "training/trackers.py")),
        ("wandb", "training/trackers.py"),
        ("datasets", ("data/sources/",)),
        ("jinja2", "evaluation/report/page.py"),
        ("matplotlib", "evaluation/report/"),
        ("filelock", ("data/cache", "storage/lock.py")),
        ("typer", ("cli/",)),
    ],
)
def test_a_library_is_known_in_few_places_only(library: str, only_in: str | tuple[str, ...]) -> None:
    knowing = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == library for name in imports_of(path))
    ]
    assert all(path.startswith(only_in) for path in knowing), knowing


def test_metrics_comparisons_and_reports_are_made_without_torch() -> None:
    places = ("metrics/", "evaluation/compare/", "evaluation/report/", "storage/run_files.py", "storage/yaml.py")
    files = [path for path in FILES if str(path.relative_to(PACKAGE)).startswith(places)]
    assert len(files) > 30
    assert not [path for path in files if any(name.split(".")[0] == "torch" for name in imports_of(path))]


def test_exports_are_read_without_torch() -> None:
    torch_free = {"__init__", "types", "card", "paths", "predictor", "reader", "runtimes", "select"}
    for name in torch_free:
        tree = ast.parse((PACKAGE / "export" / f"{name}.py").read_text(encoding="utf-8"))
        at_the_top = {
            part
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for part in (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        }
        ours = {part.split(".")[2] for part in at_the_top if part.startswith("codistill.export.")}
        assert ours <= torch_free, name
        assert not [part for part in at_the_top if part.split(".")[0] == "torch"], name


def test_targets_are_detached_in_one_place() -> None:
    detaching = [path for path in FILES if room_of(path) in ("core", "tasks")]
    found = {
        str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8").count("Target(target.") for path in detaching
    }
    assert {name for name, count in found.items() if count} == {"core/cohort.py"}
    elsewhere = [path for path in detaching if path.stem not in ("cohort", "forward", "threaded_forward")]
    assert not [path for path in elsewhere if ".detach(" in path.read_text(encoding="utf-8")]
