"""Who may import whom. The rules are drawn in docs/architecture.md; here they hold."""

import ast
from pathlib import Path

import pytest

import codistill

PACKAGE = Path(codistill.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# part of the package -> the parts that it may import, besides itself, `errors` and `printable`
ALLOWED: dict[str, set[str]] = {
    "analysis": set(),
    "batch": set(),
    "errors": {"nearest", "printable"},
    "nearest": set(),
    "libraries": set(),
    "printable": set(),
    "terminal": set(),
    "weights": set(),
    "student": set(),
    "student_file": set(),
    "digest": set(),
    "other_work": set(),
    "look": {"student", "views"},
    "side_by_side": {"look", "student"},
    "objective": {"nearest"},
    "views": set(),
    "teacher": {"batch", "student"},
    "distill": {"student", "teacher"},
    "method": {"distill", "objective", "teacher", "views"},
    "tasks": {"batch", "student", "views"},
    "methods": {"batch", "student", "teacher", "distill", "method", "objective", "tasks", "views"},
    "models": {"digest", "libraries", "nearest", "student", "student_file", "weights"},
    "cohort": {"batch", "student", "look", "tasks", "teacher", "method", "views"},
    "pixels": set(),
    "data": {"batch", "nearest", "pixels"},
    "engine": {"analysis", "batch", "digest", "objective", "cohort", "data", "run_files", "side_by_side", "weights"}
    | {"libraries", "student", "teacher"},
    "strict_yaml": set(),
    "run_files": {"nearest", "strict_yaml"},
    "auto": {"config", "models", "shorthand"},
    "report": {"analysis", "nearest", "run_files"},
    "shorthand": {"models", "nearest", "student", "tasks"},
    "config_data": {"shorthand"},
    "config_optimizer": {"shorthand"},
    "config": {"config_data", "config_optimizer", "methods", "models", "nearest", "objective", "poison", "shorthand"},
    "poison": {"shorthand"},
    "stress": {"*"},
    "recipe": {"config", "nearest", "run_files", "strict_yaml"},
    "resume": {"auto", "config", "engine", "finished", "models", "recipe", "run_files", "strict_yaml"},
    "display": {"engine", "terminal"},
    "saved": {"models", "student", "student_file", "weights"},
    "__init__": {"batch", "cohort", "config", "distill", "finished", "method", "objective"}
    | {"runs", "saved", "student", "tasks", "teacher"},
    "export": {
        "cohort",
        "config",
        "data",
        "digest",
        "engine",
        "experiment",
        "finished",
        "libraries",
        "models",
        "nearest",
        "pixels",
        "run_files",
        "saved",
        "student",
    }
    | {"teacher", "weights"},
    "assembly": {"cohort", "config", "methods", "models", "objective", "student", "tasks"},
    "advice": {"cohort", "config_optimizer", "data", "engine", "models", "tasks"},
    "summary": {"engine", "experiment"},
    # Those that put everything together.
    "experiment": {"*"},
    "finished": {"*"},
    "bench": {"*"},
    "runs": {"*"},
    "conclude": {"engine", "experiment", "finished", "summary"},
    "analyse": {"*"},
    "wrong_images": {"*"},
    "catalogue": {"*"},
    "doctor": {"*"},
    "environment": {"data", "libraries"},
    "dry_step": {"batch", "cohort", "engine", "look", "student"},
    "plan": {"*"},
    "relocate": {"*"},
    "versus": {"auto", "config", "engine", "experiment", "export", "report", "run_files", "shorthand"},
    "sweep": {"*"},
    "commands": {"*"},
    "cli": {"commands", "engine", "libraries", "terminal"},
    "__main__": {"cli"},
}


def part_of(path: Path) -> str:
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f"'{part}' is new: say in ALLOWED what it may import"
    own = {name.split(".")[1] for name in imports_of(path) if name.startswith("codistill.")}
    parts = {part_of(file) for file in FILES} - {"__init__"}
    assert own <= parts | {"__version__"}, f"{path} imports names of the package itself: import them from their part"
    forbidden = (own & parts) - ALLOWED[part] - {part, "errors", "printable"}
    assert "*" in ALLOWED[part] or not forbidden, f"{path} may not import {sorted(forbidden)}"


@pytest.mark.parametrize(
    ("library", "only_in"),
    [
        ("timm", ("models/timm_models.py", "export/torch_runtime.py")),
        ("onnx", "export/write.py"),
        ("onnxruntime", ("export/int8.py", "export/runtimes.py")),
        ("accelerate", ("engine/together.py", "engine/tracking.py")),
        ("wandb", "engine/tracking.py"),
        ("datasets", ("data/hub.py", "data/class_names.py", "data/columns.py", "data/local.py")),
        ("jinja2", "report/page.py"),
        ("matplotlib", "report/"),
        ("filelock", ("data/cache", "engine/lock.py")),
        ("typer", ("cli.py", "commands/")),
    ],
)
def test_a_library_is_known_in_few_places_only(library: str, only_in: str | tuple[str, ...]) -> None:
    knowing = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == library for name in imports_of(path))
    ]
    assert all(path.startswith(only_in) for path in knowing), knowing


def test_reports_are_made_without_torch() -> None:
    files = [path for path in FILES if part_of(path) in ("analysis", "report", "run_files")]
    assert files
    assert not [path for path in files if any(name.split(".")[0] == "torch" for name in imports_of(path))]


@pytest.mark.parametrize("name", ["__init__", "answer", "card", "paths", "predictor", "reader", "runtimes", "which"])
def test_exports_are_read_without_torch(name: str) -> None:
    tree = ast.parse((PACKAGE / "export" / f"{name}.py").read_text(encoding="utf-8"))
    at_the_top = {
        part
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for part in (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
    }
    torch_free = {"answer", "card", "paths", "predictor", "reader", "runtimes", "which"}
    ours = {part.split(".")[2] for part in at_the_top if part.startswith("codistill.export.")}
    assert ours <= torch_free
    assert not [part for part in at_the_top if part.split(".")[0] == "torch"]


def test_targets_are_detached_in_one_place() -> None:
    detaching = [path for path in FILES if part_of(path) in ("cohort", "distill", "tasks", "teacher", "method")]
    found = {
        str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8").count("Target(target.") for path in detaching
    }
    assert {name for name, count in found.items() if count} == {"cohort.py"}
    assert not [p for p in detaching if part_of(p) != "cohort" and ".detach(" in p.read_text(encoding="utf-8")]
