"""The documentation site: ``make docs`` builds it from these pages, which can be read as they are too."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from codistill import __version__  # noqa: E402

project = "codistill"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"codistill {release}"
html_copy_source = False

myst_heading_anchors = 3  # links such as faq.md#about-runs

ENTRY = re.compile(r"[a-z-]+")  # a page in the table of contents
OUTSIDE = re.compile(r"\]\((\.\./[^)#]+)\)")


def adapt(app: Sphinx, page: str, source: list[str]) -> None:
    """Pages that are not written yet leave the table of contents; files outside docs/ become downloads."""
    text = OUTSIDE.sub(r"](path:\1)", source[0])
    if page == "index":
        kept = (line for line in text.split("\n") if not ENTRY.fullmatch(line) or (HERE / f"{line}.md").exists())
        text = "\n".join(kept)
    source[0] = text


def setup(app: Sphinx) -> None:
    app.connect("source-read", adapt)
