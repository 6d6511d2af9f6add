"""Which network of a run is meant. No torch in here."""

from pathlib import Path
from typing import NamedTuple

from codistill import run_files
from codistill.errors import UserError, unknown

BEST, ENSEMBLE, TEACHER = "best", "ensemble", "teacher"


class Chosen(NamedTuple):
    """A student's name, and how it was chosen, in words."""

    name: str
    why: str


def choose_student(run: Path, name: str) -> Chosen:
    """A student of a finished run by its name, or the best on validation images: never on test images.

    Those are for one look at the end; a student chosen by them would look better than it is.
    """
    students = list(run_files.read_config(run)["students"])
    validation = run_files.read_summary(run).get("validation_accuracy")
    if name in students:
        return Chosen(name, "chosen by name")
    if name != BEST:
        raise unknown(f"student of run '{run}'", name, [*students, BEST])
    if validation is None:
        raise UserError(
            f"Run '{run}' had no validation images, and test images are not for choosing: name the student, one of "
            f"{', '.join(students)}."
        )
    accuracies = {student: validation["students"][student] for student in students}
    best = max(accuracies, key=lambda student: accuracies[student])
    told = ", ".join(f"{student} {accuracy:.2f} %" for student, accuracy in accuracies.items())
    return Chosen(best, f"the best by validation accuracy ({told})")
