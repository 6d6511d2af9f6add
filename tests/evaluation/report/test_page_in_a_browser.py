"""The page as a browser shows it: nothing fails, everything is drawn, and a telephone need not scroll sideways.

Needs Chromium (Debian's package of that name); skipped where there is none.
"""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from told_runs import write_run

from codistill.evaluation.report.page import make_page, write_page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
FLAGS += " --virtual-time-budget=9000"
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium")

# A headless window is 500 pixels wide at least; a frame within it may be narrower.
PROBE = """<!doctype html><title>probe</title>
<iframe src="page.html" style="width:WIDTHpx;height:900px;border:0"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach((details) => { details.open = true; });
  const button = page.getElementById("theme");
  const colour = () => frame.contentWindow.getComputedStyle(page.body.parentElement).backgroundColor;
  const before = colour();
  button.click();
  const found = {
    wide: root.scrollWidth, seen: root.clientWidth,
    drawn: [...page.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect().height),
    images: [...page.images].map((image) => image.naturalWidth),
    smallest: Math.min(...[...page.querySelectorAll("figure svg text")].map((t) => t.getBoundingClientRect().height)),
    font: frame.contentWindow.getComputedStyle(page.querySelector("svg text")).fontFamily,
    themes: [before, colour()],
  };
  document.body.dataset.found = JSON.stringify(found);
};
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The page of a folder of two runs, with long names, on a server of this machine."""
    folder = tmp_path_factory.mktemp("site")
    runs, students = folder / "runs", ("a_student_with_quite_a_long_name_0123456789", "b")
    classes = ("cat", "a class that has a name of very many letters and words", "x" * 120)
    write_run(runs / "alone", "independent", students=students, classes=classes, analysed=True)
    write_run(runs / f"together_{'long' * 15}", students=students, classes=classes, accuracy=63, analysed=True)
    write_page(make_page(runs), folder / "page.html")
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("width", [390, 1280])
def test_everything_is_drawn_without_errors_and_fits(site: tuple[Path, str], tmp_path: Path, width: int) -> None:
    folder, address = site
    (folder / "probe.html").write_text(PROBE.replace("WIDTH", str(width)))
    command = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={tmp_path}", "--window-size=1400,1000", "--dump-dom"]
    done = subprocess.run([*command, f"{address}/probe.html"], capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said
    found = _found(done.stdout)
    assert found["seen"] == width
    assert found["wide"] == width, "the page scrolls sideways"
    assert len(found["drawn"]) > 10
    assert min(found["drawn"]) > 100
    assert found["images"]
    assert min(found["images"]) > 0
    assert found["smallest"] > 9, "letters of a figure are too small to be read"
    assert "system-ui" in found["font"]
    assert found["themes"][0] != found["themes"][1], "the button changes nothing"


def _found(dom: str) -> dict[str, Any]:
    match = re.search(r'data-found="([^"]*)"', dom)
    assert match, dom[:2000]
    found: dict[str, Any] = json.loads(html.unescape(match.group(1)))
    return found


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
