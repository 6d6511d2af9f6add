"""One model of each family of timm trains as a student; docs/models.md says so of the same ones."""

import pytest
from timm_families import FAMILIES, PAGE, row


@pytest.mark.slow
@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_does_what_the_table_says(family: str) -> None:
    line = row(family)
    assert line in PAGE.read_text(encoding="utf-8").splitlines(), f"stale: run python tests/timm_families.py\n{line}"
    assert line.endswith("| yes |"), line
