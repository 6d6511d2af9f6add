"""A small finished run, its exports, and test images as files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cohorts import Silent
from PIL import Image

from codistill.config.schema import make_config
from codistill.data.sources.registry import open_source
from codistill.export import Export, export
from codistill.training import trainer

CONFIG = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": "jigsaw",
    "method": "collaborative",
    "data": {"name": "digits", "per_class": 40},
    "batch_size": 50,
    "epochs": 3,
}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "digits run"
    trainer.train(make_config(CONFIG), folder, Silent())
    return folder


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Export]:
    """An export of the run, made when it is first asked for. It is not to be changed."""
    folder, made = tmp_path_factory.mktemp("exports"), {}

    def get(to: str, student: str = "best", quantize: str | None = None) -> Export:
        key = f"{student}-{to}-{quantize}"
        if key not in made:
            made[key] = export(run, student, to, quantize=quantize, out=folder / key)
        return made[key]

    return get


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty test images as PNG files in two folders."""
    folder = tmp_path_factory.mktemp("images")
    pixels = open_source("digits").pixels("test", np.arange(40), None).numpy()
    for number, image in enumerate(pixels):
        place = folder / ("even" if number % 2 == 0 else "odd")
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.png")
    return folder
