"""Write the tables of README and docs from the committed results: ``python docs/update_tables.py``.

A table stands between ``<!-- runs: results/micro: NAME NAME ... -->`` and ``<!-- end -->``. It compares all seeds of
each named recipe, ``results/micro/NAME-seed*``. A test fails when a page is stale.
"""

import re
from pathlib import Path

from codistill.report.compare import compare, markdown

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md"]
TABLE = re.compile(r"(<!-- runs: (?P<folder>\S+): (?P<names>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(page: str) -> str:
    """The text of a page with all its tables made anew."""
    return TABLE.sub(_table, page)


def _table(match: re.Match[str]) -> str:
    folder, names = ROOT / match["folder"], match["names"].split()
    runs = [run for name in names for run in sorted(folder.glob(f"{name}-seed*"))]
    return f"{match[1]}\n{markdown(compare(runs))}\n{match[4]}"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
