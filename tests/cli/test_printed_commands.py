"""Commands that are printed to be pasted: a path with a space stays one word."""

import errno
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from codistill.config.schema import make_config
from codistill.evaluation.compare.predictions import read_right
from codistill.evaluation.report.parts import command
from codistill.storage import atomic_io
from codistill.storage.checkpoint import Checkpoints
from codistill.storage.run_dir import RunFolder
from codistill.storage.run_files import read_analysis
from codistill.training.error_hints import Uncompilable, uncompilable_explained
from codistill.training.error_hints_memory import out_of_memory_explained


def begun(run: Path) -> None:
    (run / "config.yaml").write_text(make_config({}).to_yaml())
    (run / ".lock").touch()
    with RunFolder(run) as folder:
        folder.start("epochs: 1")


def analysed(run: Path) -> None:
    (run / "summary.json").touch()
    read_analysis(run)


def answered(run: Path) -> None:
    (run / "outputs").mkdir()
    (run / "outputs" / "test.safetensors").touch()
    read_right(run, {})


def out_of_memory(run: Path) -> None:
    with out_of_memory_explained(run, 32):
        raise torch.OutOfMemoryError


def not_compiled(run: Path) -> None:
    with uncompilable_explained(run):
        raise Uncompilable("no graph")


def without_checkpoint(run: Path) -> None:
    Checkpoints(run).recover(print)


def without_room(run: Path) -> None:
    raise atomic_io.SaveError(atomic_io.explain(run, "checkpoint.pt", 1, OSError(errno.EACCES, "no")))


def moved(run: Path) -> None:
    run.rmdir()
    without_room(run)


@pytest.mark.parametrize(
    "fail", [begun, analysed, answered, out_of_memory, not_compiled, without_checkpoint, without_room, moved]
)
def test_what_is_said_to_go_on_can_be_pasted(fail: Callable[[Path], None], tmp_path: Path) -> None:
    run = tmp_path / "my run"
    run.mkdir()
    with pytest.raises(Exception, match="codistill ") as failed:
        fail(run)
    words = shlex.split("codistill " + str(failed.value).rpartition("codistill ")[2])
    assert {str(run), f"{run}/config.yaml"} & set(words)


def test_what_a_report_lacks_is_made_by_a_command_that_can_be_pasted() -> None:
    assert (
        command("train", Path("my runs/a/config.yaml"), "run=NEW") == "codistill train 'my runs/a/config.yaml' run=NEW"
    )
