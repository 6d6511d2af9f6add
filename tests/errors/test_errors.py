"""What errors of libraries are quoted with."""

import pytest

from codistill.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no room\nfor two lines"), "no room"),
        (ValueError("\n  no room  \n"), "no room"),
        (ValueError(), "ValueError"),
        (KeyError("\n"), "'\\n'"),
    ],
)
def test_an_error_is_quoted_in_one_line_that_has_words(error: Exception, said: str) -> None:
    assert first_line(error) == said
