"""What README and docs say is so."""

import re
import sys
from pathlib import Path

import pytest

from codistill.config.recipe import load_config
from codistill.core.objective import Objective, Ramp
from codistill.experiments.sweep.sweep_file import read_sweep
from codistill.training.auto import METHOD, TASK

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from update_tables import (  # noqa: E402
    BENCH,
    CODE,
    CODE_PAGES,
    DRAWN,
    KEYS,
    METHODS_PAGE,
    PAGES,
    TABLE,
    methods_page,
    updated,
)

ALL_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_tables_are_those_of_the_committed_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert any(kind.search(text) for kind in (TABLE, DRAWN, BENCH, KEYS)), "no table found"
    assert updated(text) == text, "stale: run make tables"


@pytest.mark.parametrize("page", CODE_PAGES, ids=lambda path: path.name)
def test_code_in_the_docs_is_that_of_the_examples(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert CODE.search(text), "no code found"
    assert updated(text) == text, "stale: run make tables"


def test_the_page_of_methods_and_tasks_is_that_of_the_docstrings() -> None:
    assert METHODS_PAGE.read_text(encoding="utf-8") == methods_page(), "stale: run make tables"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda path: path.name)
def test_every_configuration_in_the_docs_can_be_read(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")  # commands of several lines
    for line in re.findall(r"^ *codistill (?:train|plan) (.*)$", text, re.MULTILINE):
        words = [word for word in shlex.split(line.replace("$", ""), comments=True) if not word.startswith("run=")]
        if "--resume" in words or "$" in line.split("=")[0]:  # a loop over recipes names none
            continue
        words = [word for word in words if not word.startswith("--") and not word.isdigit()]  # options, and minutes
        recipe = Path(words.pop(0)) if words and "=" not in words[0] else None
        if recipe is not None and recipe.parts[0] == "runs":  # of a run that an earlier command made
            recipe = None
        config = load_config(recipe, [word.replace("=seed", "=0") for word in words])
        if config.data.name == "digits" and config.data.per_class:
            assert config.batch_size <= 10 * config.data.per_class, f"more than there are images: {line}"


def test_the_page_of_keys_says_what_auto_chooses_for_the_longest_training() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (rows,) = re.findall(r"## Auto\n.*?\n\|---.*?\n(.*?)\n\n", page, re.DOTALL)
    assert [row.split(" | ")[2:] for row in rows.splitlines()] == [
        ["`independent`", "none |"],
        [f"`{METHOD}`", "none |"],
        [f"`{METHOD}`", f"`{TASK}` |"],
    ]


def test_no_page_tells_how_to_leave_out_a_default_task_of_other_methods() -> None:
    """They have none."""
    stale = re.compile(r"as (its|their) papers? ha(s|ve) (it|them)[^.]*`tasks=none`|whatever the method")
    assert not [page.name for page in ALL_PAGES if stale.search(page.read_text(encoding="utf-8"))]


def test_the_page_of_keys_shows_a_recipe_that_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    recipe, sweep = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    config = load_config(tmp_path / "recipe.yaml")
    assert (config.optimizer.name, config.data.image_size, config.tasks[1][0].fraction) == ("adamw", 64, 0.25)
    weights = Objective(config.weights).table(["large/peers_kl", "small/peers_kl"])
    assert weights == {"large/peers_kl": 0.0, "small/peers_kl": Ramp(1.0, over=0.3)}
    (tmp_path / "sweep.yaml").write_text(sweep.replace("cifar100", str(ROOT / "recipes" / "cifar100")), "utf-8")
    entries = read_sweep(tmp_path / "sweep.yaml", {})
    assert len(entries) == 2 * (3 + 3 + 5)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_quickstarts_python_trains_and_loads_a_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "quickstart.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(example.replace('"epochs": 10', '"epochs": 1, "data": {"per_class": 12}, "batch_size": 32'), scope)
    assert "test_accuracy" in scope["summary"]  # type: ignore[operator]


def test_the_readmes_library_example_runs() -> None:
    _, example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {}
    exec(example, scope)
    assert "cpm/ce" in scope["losses"]  # type: ignore[operator]


def test_the_readmes_way_to_use_a_student_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import save_file

    from codistill import Student
    from codistill.models import MODELS

    example, _ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "runs" / "a" / "students" / "resnet20_1.safetensors"
    path.parent.mkdir(parents=True)
    facts = {
        "model": '"resnet20"',
        "class_names": '["only"]',
        "image_size": "[8, 8]",
        "mean": "[0, 0, 0]",
        "std": "[1, 1, 1]",
    }
    save_file(Student(MODELS["resnet20"](), 1).state_dict(), path, facts)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(example, scope)
    assert isinstance(scope["best"], torch.Tensor)
