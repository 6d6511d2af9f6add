"""A student's file, ``students/NAME.safetensors`` of a run or an export's weights: facts about it, and its tensors."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from codistill.errors import UserError, first_line

REQUIRED = ("model", "class_names", "image_size", "mean", "std")


def read_student_file(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Its facts, of which ``REQUIRED`` are there, and its weights. Raises UserError for any other file."""
    return read_facts(path), load_file(path)


def read_facts(path: str | Path) -> dict[str, Any]:
    """Its facts alone: they stand at the head of the file, and no weights are read."""
    if not Path(path).is_file():
        raise UserError(f"There is no file '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            facts = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, ValueError) as error:
        raise not_of_a_student(path, first_line(error)) from error
    if missing := [key for key in REQUIRED if key not in facts]:
        raise not_of_a_student(path, f"it does not tell {', '.join(missing)}")
    return facts


def not_of_a_student(path: str | Path, why: str) -> UserError:
    """An error for a file that is something else, or damaged."""
    return UserError(f"'{path}' is not the file of a student: {why.removesuffix('.')}.")
