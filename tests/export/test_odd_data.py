"""Odd images and odd classes: what evaluation sees is what a run and its ONNX export predict from the files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cohorts import Silent
from numpy.typing import NDArray
from odd_files import encode, noise
from PIL import Image

from codistill.config.schema import make_config
from codistill.export import export
from codistill.export.predictor import open_predictor
from codistill.models.load import load_student
from codistill.storage.run_files import read_config
from codistill.training import trainer
from codistill.training.build import Experiment, build

CLASSES = ["1", "2", "10"]  # in the order of letters, 10 is the second


def palette_with_alpha(seed: int) -> Image.Image:
    image = noise(seed).convert("P", palette=Image.Palette.ADAPTIVE).convert("PA")
    image.putalpha(noise(seed + 1000).convert("L"))
    return image


KINDS: dict[str, Callable[[int], bytes]] = {
    "png": lambda seed: encode(Image.merge("LA", [noise(seed + more).convert("L") for more in (0, 1000)])),
    "tif": lambda seed: encode(palette_with_alpha(seed), "TIFF"),
    "jpg": lambda seed: encode(noise(seed), "JPEG", icc_profile=b"none"),
    "webp": lambda seed: encode(noise(seed), "WEBP", lossless=True, save_all=True, append_images=[noise(seed + 1)]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images of all these kinds, 33 of which are of its test: one more than a batch of ``predict``."""
    place = tmp_path_factory.mktemp("odd")
    for number in range(132):
        ending, make = list(KINDS.items())[number // 3 % 4]
        file = place / "data" / CLASSES[number % 3] / f"{number:03}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(make(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODISTILL_CACHE", str(place / "cache"))
        settings = {"method": "dml", "tasks": "none", "epochs": 1, "batch_size": 7}
        data = {"name": str(place / "data"), "test": 0.25, "cache": False}
        config = {"students": {"a": "resnet8", "b": "resnet8"}, "data": data, **settings}
        trainer.train(make_config(config), place / "run", Silent())
    return place / "run"


@pytest.fixture(scope="module")
def experiment(run: Path) -> Experiment:
    return build(make_config(read_config(run)))


def evaluated(experiment: Experiment, run: Path) -> NDArray[np.float32]:
    """(n, K) probabilities of the test images as evaluation loads them, and the student as training ended."""
    student, _ = load_student(run / "students" / "a.safetensors")
    with torch.inference_mode():
        logits = torch.cat([student.eval()(batch.images).logits for batch in experiment.test])
    found: NDArray[np.float32] = logits.softmax(1).numpy()
    return found


@pytest.mark.parametrize("to", ["run", "onnx"])
def test_prediction_from_files_is_what_evaluation_sees(
    run: Path, experiment: Experiment, tmp_path: Path, to: str
) -> None:
    images = experiment.test.images
    assert images.class_names == tuple(CLASSES)
    files = [str(run.parent / "data" / experiment.place(images, row)[1:-1]) for row in range(len(images))]
    assert len(files) == 33
    assert {Path(file).suffix[1:] for file in files} == set(KINDS)
    assert [Path(file).parent.name for file in files] == [CLASSES[label] for label in images.labels]
    if to == "run":
        predictor = open_predictor(run, "a")
    else:
        assert export(run, "a", "onnx", out=tmp_path / "export").class_names == CLASSES
        predictor = open_predictor(tmp_path / "export")
    predicted = [dict(one.classes) for one in predictor.predict(files)]
    found = np.array([[one[name] for name in CLASSES] for one in predicted])
    expected = evaluated(experiment, run)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert expected.std(axis=0).min() > 1e-3  # else it would say nothing that they are alike


def test_an_image_that_is_a_batch_alone_is_predicted_as_among_others(run: Path) -> None:
    files = [str(file) for file in sorted((run.parent / "data").rglob("*.*"))[:33]]
    predictor = open_predictor(run, "a")
    *_, last = predictor.predict(files)
    (alone,) = predictor.predict(files[-1:])
    assert [name for name, _ in last.classes] == [name for name, _ in alone.classes]
    assert dict(last.classes) == pytest.approx(dict(alone.classes), abs=1e-6)
