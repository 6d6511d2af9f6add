"""A student's file of a run folder, as a network ready for use."""

from pathlib import Path
from typing import Any

from codistill.core.student import Student
from codistill.errors import UserError, first_line
from codistill.models import TIMM, is_foreign, make_backbone, name_and_settings
from codistill.storage.student_file import not_of_a_student, read_student_file
from codistill.storage.weights import load_weights


def load_student(path: str | Path, *, run_factory: bool = False) -> tuple[Student, dict[str, Any]]:
    """``students/NAME.safetensors`` -> the network in evaluation mode, and what it needs to know of its images.

    The facts are ``model`` (a name, or a mapping with name and settings), ``class_names``, ``image_size`` (height,
    width), ``resize`` (how images of other sizes came to it: squash, crop or pad), and ``mean`` and ``std`` of each
    channel for pixels in [0, 1]. A student of a user's own factory needs ``run_factory=True``: to load it runs the
    function that the file names, so the file should be one that you trust. Raises UserError for a file that is not
    there, or not a student's.
    """
    facts, weights = read_student_file(path)
    try:
        name, _ = name_and_settings(facts["model"])
        if is_foreign(name) and not name.startswith(TIMM) and not run_factory:
            raise UserError(
                f"'{path}' is a student of the factory '{name}'. Loading it runs that function: if you trust the file, "
                "add --trust, or in Python say load_student(path, run_factory=True)."
            )
        height, width = facts["image_size"]
        backbone = make_backbone(facts["model"], (height, width), pretrained=False)
        student = Student(backbone, len(facts["class_names"]), (facts["mean"], facts["std"]))
    except (KeyError, ValueError, TypeError) as error:
        raise not_of_a_student(path, first_line(error)) from error
    load_weights(student, weights, str(path), f"the {name} that the file names")
    return student.eval(), facts
