"""Superclasses: given by hand, or by a second label column of the data."""

from pathlib import Path

import numpy as np
import pytest
import references
import yaml
from cohorts import CLASSES, SIZE, make_batch

from codistill import Student, UserError, observe_shapes
from codistill.config.schema import make_config
from codistill.data.sources.registry import open_source
from codistill.data.splits import superclasses
from codistill.models import MODELS
from codistill.tasks.coarse import Coarse
from codistill.training.build import build

datasets = pytest.importorskip("datasets")


@pytest.fixture
def student() -> Student:
    return Student(MODELS["resnet8"](), CLASSES).eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six classes in the order of their names; their superclasses are 1, 2, 0, 2, 0, 1 (land is 0, sea 1, sky 2)."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write(tmp_path / "data", ["sea", "sky", "land", "sky", "land", "sea"])
    return tmp_path / "data"


def write(folder: Path, superclass_of: list[str], exceptions: int = 0) -> None:
    fine = [row % 6 for row in range(60)]
    coarse = [superclass_of[label] for label in fine]
    coarse[:exceptions] = ["sky"] * exceptions
    random = np.random.default_rng(0)
    features = datasets.Features(
        img=datasets.Image(),
        fine_label=datasets.ClassLabel(names=[f"class{i}" for i in range(6)]),
        coarse_label=datasets.ClassLabel(names=["land", "sea", "sky"]),
    )
    images = [random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in fine]
    rows = datasets.Dataset.from_dict({"img": images, "fine_label": fine, "coarse_label": coarse}, features=features)
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(str(folder / "train.parquet"))


def test_the_loss_is_the_literal_cross_entropy_of_the_superclass(student: Student) -> None:
    task = Coarse(observe_shapes(student, (3, SIZE, SIZE)), superclasses=[2, 0, 1, 1, 0])
    batch = make_batch()
    seen = {"clean": student(batch.images)}
    labels = [[2, 0, 1, 1, 0][label] for label in batch.labels.tolist()]
    expected = references.cross_entropy(task.head(seen["clean"].embedding), labels)
    assert task.head.out_features == 3
    assert task(seen, batch).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"Set data.superclass to the label column .* or list one number for each class"),
        ([0, 1], "2 superclasses for 5 classes"),
        ([0, 0, 1, 1, 3], r"numbered 0, 1, ... with at least two, got \[0, 1, 3\]"),
        ([0, 0, 0, 0, 0], r"with at least two, got \[0\]"),
    ],
)
def test_superclasses_that_cannot_be_meant_are_refused(student: Student, given: list[int] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Coarse(observe_shapes(student, (3, SIZE, SIZE)), superclasses=given)


def test_superclasses_come_from_a_label_column_and_are_numbered_without_gaps(folder: Path) -> None:
    source = open_source(str(folder))
    assert superclasses(source, "coarse_label") == [1, 2, 0, 2, 0, 1]
    assert source.class_names == tuple(f"class{i}" for i in range(6))
    chosen = np.sort(np.random.default_rng(3).permutation(6)[:2])  # as data.classes=2 with data.seed=3 chooses
    kept = [[1, 2, 0, 2, 0, 1][label] for label in chosen]
    assert superclasses(source, "coarse_label", classes=2, seed=3) == [sorted(set(kept)).index(s) for s in kept]


def test_a_class_of_two_superclasses_and_an_unknown_column_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"label column \(data.superclass\) 'coarse'. Did you mean 'coarse_label'"):
        superclasses(open_source(str(folder)), "coarse")
    write(folder, ["sea", "sky", "land", "sky", "land", "sea"], exceptions=1)
    with pytest.raises(UserError, match="class 'class0' has images of both 'sea' and 'sky'"):
        superclasses(open_source(str(folder)), "coarse_label")
    with pytest.raises(UserError, match=r"data.superclass=x names a column of a folder or hub data set"):
        superclasses(open_source("digits"), "x")


def test_a_run_takes_them_from_the_data_and_its_configuration_says_which(folder: Path) -> None:
    own = [0, 1, 0, 1, 0, 1]
    given = {
        "students": {"a": "resnet8", "b": "resnet8"},
        "tasks": ["coarse", {"name": "coarse", "superclasses": own}],
        "data": {"name": str(folder), "superclass": "coarse_label"},
        "batch_size": 8,
    }
    config = build(make_config(given)).config
    assert [task.settings["superclasses"] for (task,) in config.tasks] == [[1, 2, 0, 2, 0, 1], own]
    assert make_config(yaml.safe_load(config.to_yaml())) == config
