"""Runs with any augmentation are resumed exactly, and never on other images than they began with."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from cohorts import Silent
from interrupted import killed_after_an_epoch, killed_in_step
from odd_files import encode, noise, write_class_folders
from typer.testing import CliRunner

from codistill.cli.main import app
from codistill.config.schema import make_config
from codistill.errors import UserError
from codistill.evaluation.compare.rows import compare
from codistill.storage import checkpoint
from codistill.storage.run_files import read_config
from codistill.training import restore, trainer
from codistill.training.update_data_path import relocate

SETTINGS: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": ["rotation", "none"],
    "method": "collaborative",
    "batch_size": 8,
    "epochs": 2,
    "data": "./data",
}
AUGMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything": {"augment": {"crop": "resized", "policy": "rand", "mixup": 0.2, "cutmix": 1.0}, "order": "balanced"},
    "trivial": {"augment": {"crop": "none", "policy": "trivial"}},
}


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    write_class_folders("data", count=20)


def run_of_an_epoch(config: dict[str, Any]) -> Path:
    """A run that was interrupted after its first epoch."""
    with killed_after_an_epoch():
        trainer.train(make_config(config), Path("run"), Silent())
    return Path("run")


@pytest.mark.parametrize("way", AUGMENTS)
def test_a_run_with_any_augmentation_is_resumed_exactly(way: str) -> None:
    config = {**SETTINGS, **AUGMENTS[way]}
    trainer.train(make_config(config), Path("whole"), Silent())
    run = run_of_an_epoch(config)
    trainer.train(restore.read_run_config(run), run, Silent(), resume=True)
    whole, resumed = (torch.load(Path(name, "checkpoint.pt"))["cohort"] for name in ("whole", "run"))
    torch.testing.assert_close(resumed, whole, atol=0, rtol=0)


def test_a_finished_run_is_measured_on_its_own_data_alone() -> None:
    trainer.train(make_config({**SETTINGS, "epochs": 1}), Path("run"), Silent())
    assert restore.evaluate_run("run")[0]._asdict() == restore.evaluate_run("run")[1]["test_accuracy"]

    def refused(words: str) -> None:
        with pytest.raises(UserError, match=rf"Data './data' changed since the run in 'run' was trained: {words}"):
            restore.evaluate_run("run")

    first, *_ = sorted(path for path in Path("data").iterdir() if path.is_dir())
    first.rename("data/zebra")
    refused(rf"its classes were {first.name}, .*, and are .*, zebra")
    Path("data/zebra").rename(first)
    (first / "1000.png").write_bytes(encode(noise(1000)))
    refused("there were .* images, and are ")
    (first / "1000.png").unlink()
    image = next(first.iterdir())
    kept = image.read_bytes()
    image.write_bytes(encode(noise(1000)))
    refused("there are as many images, of the same classes, but others in train")
    image.write_bytes(kept)
    restore.evaluate_run("run")


def test_a_run_is_not_resumed_on_other_images_than_it_began_with() -> None:
    run = run_of_an_epoch(SETTINGS)
    before = (run / "checkpoint.pt").read_bytes()
    for path in Path("data").rglob("*.png"):
        path.write_bytes(encode(noise(1000 + int(path.stem))))
    with pytest.raises(UserError, match=r"training images of data './data' are not those that the run in 'run' began"):
        trainer.train(restore.read_run_config(run), run, Silent(), resume=True)
    assert (run / "checkpoint.pt").read_bytes() == before
    write_class_folders("data", count=20)  # as they were, but for their times
    trainer.train(restore.read_run_config(run), run, Silent(), resume=True)


def test_a_run_whose_data_moved_goes_on_when_it_was_told_where_to() -> None:
    trainer.train(make_config(SETTINGS), Path("whole"), Silent())
    run = run_of_an_epoch(SETTINGS)
    Path("data").rename("elsewhere")
    with pytest.raises(
        UserError, match=r"does not exist\. .* moved, say where to: codistill relocate run --data PLACE"
    ):
        trainer.train(restore.read_run_config(run), run, Silent(), resume=True)
    relocate(run, "./elsewhere")
    trainer.train(restore.read_run_config(run), run, Silent(), resume=True)
    whole, resumed = (torch.load(Path(name, "checkpoint.pt"))["cohort"] for name in ("whole", "run"))
    torch.testing.assert_close(resumed, whole, atol=0, rtol=0)


def test_a_finished_run_whose_data_moved_is_measured_again_when_it_was_told_where_to() -> None:
    trainer.train(make_config({**SETTINGS, "epochs": 1}), Path("run"), Silent())
    Path("data").rename("elsewhere")
    with pytest.raises(UserError, match=r"say where to: codistill relocate run --data PLACE"):
        restore.evaluate_run("run")
    config = Path("run", "config.yaml")
    config.write_text(config.read_text().replace("compile: auto", "compile: cuda_graphs"))  # whatever it trained on
    relocate("run", "./elsewhere")
    assert restore.evaluate_run("run")[0]._asdict() == restore.evaluate_run("run")[1]["test_accuracy"]


def test_a_run_that_saved_nothing_is_begun_anew_by_the_command_that_is_told() -> None:
    with killed_in_step(0):
        trainer.train(make_config(SETTINGS), Path("run"), Silent())
    Path("data").rename("elsewhere")
    with pytest.raises(UserError, match=r"Nothing was saved yet in 'run'") as told:
        relocate("run", "./elsewhere")
    _, *words = shlex.split(str(told.value).split("Begin it anew: ")[1])
    assert CliRunner().invoke(app, words).exit_code == 0
    assert read_config(Path("run"))["data"]["name"] == "./elsewhere"


def test_a_run_is_not_told_that_other_images_are_its_data() -> None:
    trainer.train(make_config({**SETTINGS, "epochs": 1}), Path("run"), Silent())
    before = Path("run", "config.yaml").read_bytes()
    shutil.copytree("data", "copy")
    exchange("copy")
    with pytest.raises(UserError, match=r"The images of './copy' for train.* are not those of the run in 'run'"):
        relocate("run", "./copy")
    assert Path("run", "config.yaml").read_bytes() == before


def with_test_folders() -> dict[str, Any]:
    """Settings of a run, on data that has a test split of its own."""
    write_class_folders("split/train", count=20)
    write_class_folders("split/test", count=10)
    return {**SETTINGS, "data": {"name": "./split", "validation": 0.2}, "epochs": 1}


def exchange(folder: str) -> None:
    """Swap an image of each class, so that counts, labels, mean and std stay."""
    cat, dog = (Path(folder, name, "7.png") for name in ("cat", "dog"))
    content = cat.read_bytes()
    cat.write_bytes(dog.read_bytes())
    dog.write_bytes(content)


def test_a_finished_run_is_not_measured_where_test_images_changed_their_labels() -> None:
    trainer.train(make_config(with_test_folders()), Path("run"), Silent())
    restore.evaluate_run("run")
    exchange("split/test")
    with pytest.raises(UserError, match=r"changed since the run in 'run' was trained: .* others in test, or another"):
        restore.evaluate_run("run")
    exchange("split/test")
    restore.evaluate_run("run")


def test_a_run_is_not_resumed_where_test_images_changed_and_one_of_an_earlier_version_is() -> None:
    run = run_of_an_epoch(with_test_folders())
    exchange("split/test")
    with pytest.raises(UserError, match=r"The test images of data './split' are not those that the run in 'run' began"):
        trainer.train(restore.read_run_config(run), run, Silent(), resume=True)
    state = checkpoint.read(run / "checkpoint.pt")
    del state["fingerprints"]
    (run / "checkpoint.pt").write_bytes(checkpoint.seal(state))
    trainer.train(restore.read_run_config(run), run, Silent(), resume=True)


def test_runs_between_which_labels_of_test_images_were_exchanged_are_not_compared() -> None:
    config = with_test_folders()
    for name, method in (("alone", "independent"), ("together", "dml")):
        trainer.train(make_config({**config, "method": method}), Path(name), Silent())
        exchange("split/test")
    with pytest.raises(UserError, match=r"'alone' and 'together' have the same settings of data, .* test images"):
        compare([Path("alone"), Path("together")])
