"""A student's file of a run folder, as a network ready for use."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from codistill.errors import UserError
from codistill.models import MODELS
from codistill.student import Student
from codistill.weights import load_weights


def load_student(path: str | Path) -> tuple[Student, dict[str, Any]]:
    """``students/NAME.safetensors`` -> the network in evaluation mode, and what it needs to know of its images.

    The facts are ``model``, ``class_names``, ``image_size`` (height, width), and ``mean`` and ``std`` of each channel
    for pixels in [0, 1]. Raises UserError for a file that is not there, or not a student's.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            facts = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        student = Student(MODELS[facts["model"]](), len(facts["class_names"]))
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"'{path}' is not the file of a student: {str(error).splitlines()[0]}") from error
    load_weights(student, weights, str(path), f"the {facts['model']} that the file names")
    return student.eval(), facts
