"""What users of the Python API are told is so: the package's names, and the examples in docstrings."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import codistill

PACKAGE = Path(codistill.__file__).parent
SHOWING = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_in_docstrings_give_what_they_show(path: Path) -> None:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0


def test_docstrings_of_the_words_everybody_uses_have_examples() -> None:
    assert {"cohort.py", "schema.py", "objective.py", "student.py"} <= {path.name for path in SHOWING}


@pytest.mark.parametrize("name", codistill.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(codistill, name).__doc__


@pytest.mark.parametrize("name", codistill.__all__)
def test_every_public_name_is_on_the_page_of_python_names(name: str) -> None:
    page = (PACKAGE.parent / "docs" / "api.md").read_text(encoding="utf-8")
    assert re.search(rf"^\.\. auto\w+:: {name}$", page, re.MULTILINE)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Student2'"):
        codistill.Student2  # noqa: B018


def test_public_names_are_offered_where_names_are_completed() -> None:
    assert set(codistill.__all__) <= set(dir(codistill))
