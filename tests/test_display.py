"""What people see before training: that images are being decoded."""

from io import StringIO

import pytest
from rich.console import Console

from codistill.display import MANY_IMAGES, Bar, Lines, choose_display


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
