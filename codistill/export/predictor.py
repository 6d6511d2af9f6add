"""From image files to class probabilities, by an export or a student of a run. No torch unless the network needs it.

An image goes the way of evaluation: decoded, resized and given as pixels; the network normalises.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codistill.data.transforms.decode import decode
from codistill.data.transforms.resize import Pixels, resize
from codistill.errors import UserError
from codistill.errors.libraries import importing
from codistill.errors.nearest import did_you_mean, similar_path
from codistill.export.reader import check_file, is_export, read_export
from codistill.export.runtimes import open_network
from codistill.export.select import BEST, LAST, choose_student
from codistill.export.types import Answer, Floats

BATCH = 32


class Prediction(NamedTuple):
    """One image's most probable classes, the first the most probable."""

    path: str
    classes: list[tuple[str, float]]  # name, probability


class Predictor:
    """A network and what it needs to know of its images."""

    def __init__(
        self, answer: Answer, class_names: Sequence[str], image_size: tuple[int, int], how: str = "squash"
    ) -> None:
        self.answer, self.class_names, self.image_size, self._how = answer, list(class_names), image_size, how

    def probabilities(self, images: Sequence[Pixels]) -> NDArray[np.float64]:
        """uint8 images of any size, (H, W, 3) each -> (B, K)."""
        logits = self.answer(as_input(images, self.image_size, self._how)).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def predict(
        self, paths: Iterable[str], top: int = 5, broken: Callable[[str, str], None] | None = None
    ) -> Iterator[Prediction]:
        """Batch by batch, in order. ``broken`` is told the path of an image that cannot be read, and why.

        Without it, such an image raises UserError.
        """
        paths = iter(paths)
        while batch := list(islice(paths, BATCH)):
            read = ((path, self._read(path, broken)) for path in batch)
            images = [(path, pixels) for path, pixels in read if pixels is not None]
            if not images:
                continue
            answers = self.probabilities([pixels for _, pixels in images])
            for (path, _), probability in zip(images, answers, strict=True):
                best = np.argsort(-probability, kind="stable")[:top]
                yield Prediction(path, [(self.class_names[label], float(probability[label])) for label in best])

    def _read(self, path: str, broken: Callable[[str, str], None] | None) -> Pixels | None:
        """Of the network's size at once, for a batch of photographs would fill the memory."""
        try:
            return resize(decode(path), self.image_size, self._how)
        except ValueError as error:
            if broken is None:
                raise UserError(f"'{path}': the image cannot be decoded: {error}.") from error
            broken(path, f"the image cannot be decoded: {error}")
            return None


def as_input(images: Sequence[Pixels], size: tuple[int, int], how: str = "squash") -> Floats:
    """uint8 (H, W, 3) each -> float32 (B, 3, height, width) in [0, 1]; ``how`` as of ``pixels.resize``."""
    pixels = np.stack([resize(image, size, how) for image in images]).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)


def open_predictor(
    place: str | Path,
    student: str | None = None,
    *,
    epoch: str | None = None,
    trust: bool = False,
    threads: int | None = None,
) -> Predictor:
    """An export, or a student of a finished run (by default the best on validation images), after the last epoch.

    epoch: "best" for the student's weights of the epoch that was best on validation images.
    threads: of one call; None for as many as the network's runtime takes.

    trust: as of ``codistill.export.runtimes.open_network``. Raises UserError for a folder that is neither, or damaged.
    """
    place = Path(place)
    if is_export(place):
        for option, given in (("--student is", student), ("--epoch is", epoch)):
            if given is not None:
                raise UserError(f"'{place}' is an export, of one network: {option} for run folders.")
        export = read_export(place)
        answer = open_network(export, trust=trust, threads=threads)
        return Predictor(answer, export.class_names, export.image_size, export.resize)
    if not (place / "config.yaml").exists():
        hint = did_you_mean(similar_path(place, os.path.isdir))
        neither = f"'{place}' is neither an export nor a run folder: it has no export.json and no config.yaml.{hint}"
        raise UserError(_whole_of(place) or neither)
    chosen = choose_student(place, student or BEST, epoch or LAST)
    path = place / "students" / f"{chosen.file}.safetensors"
    if chosen.sha256 is not None:
        check_file(path, chosen.sha256, "summary.json", "Put the run's own file back.")
    with importing("torch", f"A student of a run, '{place}',"):
        from codistill.export import torch_runtime

    torch_runtime.take_threads(threads)
    answer, facts = torch_runtime.student_file(path, trust=trust)
    height, width = facts["image_size"]
    return Predictor(answer, facts["class_names"], (height, width), facts["resize"])


def _whole_of(part: Path) -> str | None:
    """What to say of a file or folder within an export or a run; None for any other."""
    for folder in part.parents[:2] if part.exists() else []:
        if is_export(folder):
            return f"'{part}' is a part of an export. Give the export's folder: {folder}"
        if (folder / "config.yaml").exists():
            name = part.name.removesuffix(".safetensors")
            which = f"{name.removesuffix('.best')} --epoch best" if name.endswith(".best") else name
            student = f" and --student {which}" if part.parent.name == "students" else ""
            return f"'{part}' is a part of a run. Give the run's folder{student}: {folder}"
    return None
