"""What a display shows: that images are being decoded, and how training goes."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from codistill.training.display import MANY_IMAGES, Bar, Lines, choose_display
from codistill.training.evaluate import Accuracy
from codistill.training.recorder import Progress


def shown(terminal: bool, total: int) -> str:
    console = Console(file=StringIO(), force_terminal=terminal, width=100)
    with choose_display(console) as display:
        assert isinstance(display, Bar if terminal else Lines)
        for done in range(total + 1):
            display.decoding(done, total)
            if done == total // 2 and isinstance(display, Bar):
                display._bar.refresh()
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_without_a_terminal_many_images_are_one_line_and_few_are_none() -> None:
    assert shown(terminal=False, total=MANY_IMAGES) == "Decoding 2,000 images\n"
    assert shown(terminal=False, total=MANY_IMAGES - 1) == ""


@pytest.mark.parametrize(("total", "bar"), [(MANY_IMAGES, True), (MANY_IMAGES - 1, False)])
def test_on_a_terminal_many_images_are_a_bar_that_leaves(total: int, bar: bool) -> None:
    seen = shown(terminal=True, total=total)
    assert ("Decoding images  1,000/2,000" in seen) is bar
    assert "2,000/2,000" not in seen


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "step 108/300  epoch 4/10  1:05 left  1,203 images/s\n"),
        (
            {"objective": 12.584, "cross_entropy": {"a": 1.2141, "b": 1.3}},
            "step 108/300  epoch 4/10  1:05 left  objective 12.584  a ce 1.214  b ce 1.300  1,203 images/s\n",
        ),
        (
            {
                "objective": 12.584,
                "cross_entropy": {"a": 1.2141, "b": 1.3},
                "validation": Accuracy({"a": 45.12, "b": 44.0}, None, 46.0),
            },
            "step 108/300  epoch 4/10  1:05 left  objective 12.584  a ce 1.214, 45.1 %  b ce 1.300, 44.0 %  "
            "1,203 images/s\n",
        ),
    ],
    ids=["first steps", "first epoch", "later"],
)
def test_a_line_shows_each_students_cross_entropy_beside_the_objective(more: dict[str, Any], expected: str) -> None:
    console = Console(file=StringIO(), width=100)
    begun = Progress(4, 10, 108, 300, None, {}, None, 1203.0, 65.0)
    Lines(console).line(begun._replace(**more))
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == expected
