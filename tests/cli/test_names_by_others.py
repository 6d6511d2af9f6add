"""Names that others wrote, of classes, files and folders, stay in their line and command no terminal."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cohorts import Silent
from odd_files import encode, noise

from codistill.cli import main
from codistill.config.schema import make_config
from codistill.core.student import check_student_names
from codistill.data.sources.registry import open_source
from codistill.data.splits import prepare
from codistill.errors import UserError
from codistill.errors.printable import printable, printable_lines
from codistill.errors.terminal import Terminal
from codistill.training import trainer

CLASSES = ["ash\n\x1b[31mred", "o\tak", "ulm\u202eus\x9b2J"]
ESCAPED = [r"ash\n\x1b[31mred", r"o\tak", r"ulm\u202eus\x9b2J"]
FILE, ESCAPED_FILE = "a\n\x1b]0;title\x07.png", r"a\n\x1b]0;title\x07.png"
RUN, ESCAPED_RUN = "r\n\x1b[2Jun", r"r\n\x1b[2Jun"

Command = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a list of them, a run trained on it, and its control."""
    place = tmp_path_factory.mktemp("names")
    lines = ["file,species"]
    for label, name in enumerate(CLASSES):
        for number in range(8):
            file = place / f"{label}{number}{FILE}"
            file.write_bytes(encode(noise(8 * label + number)))
            lines.append(f'"{file.name}","{name}"')
    (place / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = {"tasks": "none", "epochs": 1, "batch_size": 4}
    data = {"name": str(place / "list.csv"), "validation": 0.25, "test": 0.25}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODISTILL_CACHE", str(place / "cache"))
        for folder, method in ((RUN, "dml"), ("alone", "independent")):
            config = {"students": {"a": "resnet8", "b": "resnet8"}, "data": data, "method": method, **settings}
            trainer.train(make_config(config), place / folder, Silent())
    return place


@pytest.fixture
def command(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command, run in that folder -> what it prints, on stdout and on stderr."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("CODISTILL_CACHE", str(place / "cache"))

    def run(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["codistill", *words])
        with pytest.raises(SystemExit):
            main.main()
        said = capsys.readouterr()
        return said.out, said.err

    monkeypatch.setattr(main, "leave", sys.exit)
    return run


def controls(text: str) -> set[str]:
    """The control characters of a text, but for line breaks."""
    return {character for character in text if printable(character) != character} - {"\n"}


def test_the_first_line_of_a_run_and_its_last_show_names_in_one_line(command: Command) -> None:
    said, _ = command("train", f"{RUN}/config.yaml", f"run={RUN}", "--overwrite")
    assert controls(said) == set()
    first, *_, last = said.splitlines()
    assert f"3 classes ({', '.join(ESCAPED)})" in first
    assert last.endswith(f"Run folder: {ESCAPED_RUN}")


def test_predict_prints_one_line_for_each_image(command: Command, place: Path) -> None:
    files = sorted(file.name for file in place.glob("*.png"))
    broken = f"broken{FILE}"
    (place / broken).write_bytes(b"no image")
    said, errors = command("predict", RUN, *files, broken)
    lines = said.splitlines()
    assert controls(said + errors) == set()
    assert [line.split(": ")[0] for line in lines] == [printable(file) for file in files]
    assert all(all(name in line for name in ESCAPED) for line in lines)
    assert errors.startswith(rf"broken{ESCAPED_FILE}: the image cannot be decoded")


def test_json_holds_names_as_they_are(command: Command) -> None:
    said, _ = command("predict", RUN, f"00{FILE}", "--json")
    record = json.loads(said)
    assert record["image"] == f"00{FILE}"
    assert {one["class"] for one in record["classes"]} == set(CLASSES)
    student = json.loads(command("analyse", RUN, "--json")[0])[RUN]
    assert student["class_names"] == CLASSES


@pytest.mark.parametrize(
    "words",
    [
        ["analyse", RUN],
        ["analyse", RUN, "--wrong"],
        ["compare", RUN],
        ["compare", RUN, "--csv"],
        ["compare", RUN, "--markdown"],
        ["compare", RUN, "--latex"],
        ["evaluate", RUN],
        ["export", RUN, "--out", f"export{RUN}", "--overwrite"],
        ["plan", f"{RUN}/config.yaml"],
        ["report", RUN],
        ["relocate", RUN, "--data", "list.csv"],
        ["cache"],
        ["compare", f"no{RUN}"],
        ["predict", f"no{RUN}", "x.png"],
    ],
    ids=" ".join,
)
def test_no_command_prints_a_control_character(command: Command, words: list[str]) -> None:
    said, errors = command(*words)
    assert said + errors
    assert controls(said + errors) == set()


@pytest.mark.parametrize(
    ("words", "cells"),
    [(["analyse", RUN, "--wrong"], ESCAPED), (["compare", RUN, "--csv"], [ESCAPED_RUN])],
    ids=["wrong images", "a comparison"],
)
def test_cells_of_csv_are_in_one_line(command: Command, words: list[str], cells: list[str]) -> None:
    said, _ = command(*words)
    found = [cell for line in csv.reader(io.StringIO(said)) for cell in line]
    assert all(printable(cell) == cell for cell in found)
    assert any(cell in found for cell in cells)


def test_a_page_and_a_card_show_names_as_escapes(command: Command, place: Path) -> None:
    command("analyse", RUN, "alone")
    command("report", ".")
    page = (place / "report.html").read_text(encoding="utf-8")
    assert controls(page) == set()
    assert ESCAPED_RUN in page
    assert ESCAPED[1] in page  # of which the figure of classes shows all
    command("export", RUN, "--out", "export", "--overwrite")
    card = (place / "export" / "README.md").read_text(encoding="utf-8")
    assert controls(card) == set()
    title, *_ = card.splitlines()
    assert title.startswith(f"# {ESCAPED_RUN}: ")
    assert ", ".join(ESCAPED) in card


def test_errors_about_data_name_files_and_classes_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in CLASSES:
        Path("data", name).mkdir(parents=True)
        Path("data", name, FILE).write_bytes(encode(noise(len(name))))
    with pytest.raises(UserError) as told:
        prepare(open_source("data"))
    assert printable(str(told.value)) == str(told.value)
    Path("list.csv").write_text(f'file,label\n"no{FILE}","{CLASSES[0]}"\n', encoding="utf-8")
    with pytest.raises(UserError) as told:
        open_source("list.csv")
    assert rf"there is no file 'no{ESCAPED_FILE}'" in str(told.value)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b", "a\u202eb"])
def test_a_student_has_no_name_with_control_characters(name: str) -> None:
    with pytest.raises(UserError, match="should be printable"):
        check_student_names([name, "b"])


def test_a_name_that_can_be_printed_stays_as_it_is() -> None:
    for name in ("Ulme ü", "oak [old]", r"back\slash", "木", "\N{FAMILY}\u200d\N{BOY}", "e\N{COMBINING ACUTE ACCENT}"):
        assert printable(name) == name
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert printable("\r\n\t\0\x7f\x85\u2028") == r"\r\n\t\x00\x7f\x85\u2028"
    assert printable_lines("one\ntwo\tthree") == "one\ntwo\\tthree"


def test_a_terminal_shows_control_characters_of_texts_and_cells_and_keeps_its_own_colours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.table import Table

    terminal = Terminal(force_terminal=True, color_system="standard", width=80, highlight=False)
    table = Table("name")
    table.add_row("[red]red[/red] \x1b]0;title\x07")
    terminal.print("[red]red[/red] \x1b[2J", table)
    said = capsys.readouterr().out
    assert r"\x1b[2J" in said
    assert r"\x1b]0;title\x07" in said
    assert "\x1b[2J" not in said
    assert "\x1b]0;" not in said
    assert said.count("\x1b[31mred\x1b[0m") == 2
