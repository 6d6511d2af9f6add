"""What methods and tasks say of themselves."""

import re

import pytest

from codistill import catalogue
from codistill.errors import UserError
from codistill.methods import METHODS
from codistill.tasks import TASKS


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_formula_source_and_a_word_on_every_setting(name: str) -> None:
    entry = catalogue.describe_method(name)
    assert name == "independent" or re.search(r"arXiv:\d|SSRN \d|CVPR \d", entry.summary), entry.summary
    assert " = " in entry.text or "CE(" in entry.text
    assert name in ("independent", "collaborative") or "Deviation:" in entry.text
    missing = [setting.name for setting in entry.settings if not re.search(rf"\b{setting.name}\b", entry.usage)]
    assert missing == []


@pytest.mark.parametrize("name", TASKS)
def test_a_task_gives_formula_source_and_a_word_on_every_setting(name: str) -> None:
    entry = catalogue.describe_task(name)
    own = [setting.name for setting in entry.settings if setting.name not in ("weight", "fraction")]
    assert [setting for setting in own if not re.search(rf"\b{setting}\b", entry.usage)] == []
    assert name == "coarse" or re.search(r"\d{4}\.\d{5}|(19|20)\d\d", entry.text)


def test_costs_are_counted_on_the_cohort_itself() -> None:
    assert catalogue.describe_method("dml").passes == 1
    assert catalogue.describe_method("hssakd").passes == 4
    assert catalogue.describe_method("okddip").extra_parameters > 0  # with three students
    rotation = catalogue.describe_task("rotation")
    assert rotation.passes == 4
    assert rotation.extra_parameters == 83_808  # three heads of 64 x 400 + 400, and the blocks before two of them


def test_types_are_shown_with_their_bounds() -> None:
    settings = {setting.name: setting.kind for setting in catalogue.describe_method("collaborative").settings}
    assert settings["temperature"] == "float > 0"
    assert settings["width"] == "int > 0 or None"


def test_an_unknown_name_is_met_with_the_choices() -> None:
    with pytest.raises(UserError, match=r"Unknown method 'okdip'. Did you mean 'okddip'\?"):
        catalogue.describe_method("okdip")
    with pytest.raises(UserError, match="Unknown task 'color'"):
        catalogue.describe_task("color")
