"""What methods and tasks say of themselves."""

import re
from pathlib import Path

import pytest

from codistill.core.student import Student
from codistill.errors import UserError
from codistill.experiments import describe_registry
from codistill.methods import METHODS
from codistill.models import MODELS, make_backbone
from codistill.tasks import TASKS, Rotation


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_formula_source_and_a_word_on_every_setting(name: str) -> None:
    entry = describe_registry.describe_method(name)
    assert name == "independent" or re.search(r"arXiv:\d|SSRN \d|CVPR \d", entry.summary), entry.summary
    assert " = " in entry.text or "CE(" in entry.text
    assert name in ("independent", "collaborative") or "Deviation:" in entry.text
    missing = [setting.name for setting in entry.settings if not re.search(rf"\b{setting.name}\b", entry.usage)]
    assert missing == []


def test_the_modules_that_a_method_is_made_of_are_told_with_it() -> None:
    text = describe_registry.describe_method("collaborative").text
    assert "fused    = ReLU BN Conv1x1" in text  # of the CPM
    assert "w_i  = exp(-sharpness * (c_i - min_j c_j))" in text  # of reliability


def test_every_model_is_listed_once_with_what_it_is_and_its_parameters() -> None:
    groups = describe_registry.model_summaries()
    assert [name for group in groups.values() for name in group] == list(MODELS)
    assert all(re.search("ResNet|[Rr]esidual|VGG|DenseNet|MobileNet|ShuffleNet", group) for group in groups)
    counts = {name: count for group in groups.values() for name, count in group.items()}
    assert counts["wrn_40_2"] == sum(p.numel() for p in Student(make_backbone("wrn_40_2"), 100).parameters())
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name, count in counts.items() if f"| `{name}` | {count:,} |" not in page] == []


@pytest.mark.parametrize("name", TASKS)
def test_a_task_gives_formula_source_and_a_word_on_every_setting(name: str) -> None:
    entry = describe_registry.describe_task(name)
    own = [setting.name for setting in entry.settings if setting.name not in ("weight", "fraction")]
    assert [setting for setting in own if not re.search(rf"\b{setting}\b", entry.usage)] == []
    assert name == "coarse" or re.search(r"\d{4}\.\d{5}|(19|20)\d\d", entry.text)


def test_costs_are_counted_on_the_cohort_itself() -> None:
    assert describe_registry.describe_method("dml").passes == 1
    assert describe_registry.describe_method("hssakd").passes == 4
    assert describe_registry.describe_method("okddip").extra_parameters > 0  # with three students
    rotation = describe_registry.describe_task("rotation")
    assert rotation.passes == 1.75
    assert rotation.extra_parameters == 83_808  # three heads of 64 x 400 + 400, and the blocks before two of them


def test_types_are_shown_with_their_bounds() -> None:
    settings = {setting.name: setting.kind for setting in describe_registry.describe_method("collaborative").settings}
    assert settings["temperature"] == "float > 0"
    assert settings["width"] == "int > 0 or None"


def test_an_unknown_name_is_met_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"Unknown method 'okdip'. Did you mean 'okddip'\?"):
        describe_registry.describe_method("okdip")
    with pytest.raises(UserError, match="Unknown task 'color'"):
        describe_registry.describe_task("color")


def test_a_task_of_ones_own_needs_no_text_to_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = type("Silent", (Rotation,), {"__module__": "my_tasks", "__doc__": None})
    monkeypatch.setitem(TASKS, "silent", silent)
    monkeypatch.setitem(TASKS, "told", type("Told", (Rotation,), {"__module__": "my_tasks", "__doc__": "Up or down?"}))
    _, tasks = describe_registry.summaries()
    assert (tasks["silent"], tasks["told"]) == ("", "Up or down?")
