"""Reading the raw material: what everybody said of every image of a split, and answered after each epoch. No torch."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from codistill.errors import UserError, first_line


class Raw(NamedTuple):
    """What students, and the teacher if one answers, said of n images of K classes."""

    labels: NDArray[np.integer]  # (n,)
    logits: dict[str, NDArray[np.floating]]  # (n, K) of students, in their order, and of the teacher
    embeddings: dict[str, NDArray[np.floating]]  # (n, D) of students
    teacher: str | None
    class_names: list[str]
    sha256: dict[str, str]  # of the students' files

    @property
    def students(self) -> list[str]:
        return list(self.embeddings)


class AnswersOverEpochs(NamedTuple):
    """What was answered to n validation images after each of E epochs."""

    epochs: list[int]  # counted from 1
    labels: NDArray[np.integer]  # (n,)
    answers: dict[str, NDArray[np.integer]]  # (E, n) of students, and of the teacher
    every: int  # image i is row ``every`` * i of the validation images


def read_raw(run: Path, split: str) -> Raw:
    """``outputs/SPLIT.safetensors``. Raises UserError if it is not there or cannot be read."""
    path = run / "outputs" / f"{split}.safetensors"
    anew = f"Delete it, and make it anew: {shlex.join(['codistill', 'analyse', str(run), '--data', split])}"
    tensors, about = read_tensors(path, anew)
    try:
        students, teacher = about["students"], about["teacher"]
        speakers = students if teacher is None else [*students, teacher]
        return Raw(
            tensors["labels"],
            {name: tensors[f"logits/{name}"] for name in speakers},
            {name: tensors[f"embeddings/{name}"] for name in students},
            teacher,
            about["class_names"],
            about["sha256"],
        )
    except KeyError as error:
        raise UserError(f"'{path}' lacks {error}. {anew}") from error


def read_answers(run: Path) -> AnswersOverEpochs | None:
    """``outputs/answers.safetensors``; None where a run has none: it had no validation images, or is an early one."""
    path = run / "outputs" / "answers.safetensors"
    if not path.exists():
        return None
    tensors, about = read_tensors(path)
    answers = {key.removeprefix("answers/"): own for key, own in tensors.items() if key.startswith("answers/")}
    try:
        answers = {name: answers[name] for name in about["speakers"]}
        return AnswersOverEpochs(tensors["epochs"].tolist(), tensors["labels"], answers, about["every"])
    except KeyError as error:
        raise UserError(f"'{path}' lacks {error}. Delete it to do without it.") from error


def read_tensors(
    path: Path, remedy: str = "Delete it to do without it."
) -> tuple[dict[str, NDArray[Any]], Mapping[str, Any]]:
    """All arrays of a safetensors file, and its metadata. Raises UserError, with the remedy, if it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            return {key: file.get_tensor(key) for key in file.keys()}, metadata  # noqa: SIM118 (no mapping)
    except Exception as error:  # safetensors has no one error class of its own
        raise UserError(f"'{path}' cannot be read: {first_line(error)}. {remedy}") from error
