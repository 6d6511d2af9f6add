"""Which network of a run is meant. No torch in here."""

from pathlib import Path
from typing import Any, NamedTuple

from codistill.errors import UserError, unknown
from codistill.storage import run_files

BEST, ENSEMBLE, TEACHER = "best", "ensemble", "teacher"
LAST = "last"
EPOCHS = (LAST, BEST)  # after the last one, or after the one with the best mean accuracy on validation images


class Chosen(NamedTuple):
    """A network's name, how it was chosen, in words, and which weights it has."""

    name: str
    why: str
    epoch: str = LAST
    sha256: str | None = None  # of a student's file, where the run knows it

    @property
    def file(self) -> str:
        """What a student's file is called in ``students/``, without its ending."""
        return f"{self.name}.best" if self.epoch == BEST else self.name


def choose_student(run: Path, name: str, epoch: str = LAST) -> Chosen:
    """A student of a finished run by its name, or the best on validation images of that epoch: never on test images.

    Those are for one look at the end; a student chosen by them would look better than it is.
    """
    students = list(run_files.read_config(run)["students"])
    summary = run_files.read_summary(run)
    if epoch not in EPOCHS:
        raise unknown("--epoch", epoch, EPOCHS)
    if epoch == BEST and not summary.get("test_accuracy_selected"):
        raise UserError(
            f"Run '{run}' had no validation images, which choose the best epoch: leave out --epoch best. Training with "
            "data.validation=0.1 holds some out."
        )
    digests = summary.get("sha256_selected" if epoch == BEST else "sha256") or {}
    if name in students:
        return Chosen(name, "chosen by name", epoch, digests.get(name))
    if name != BEST:
        raise unknown(f"student of run '{run}'", name, [*students, BEST])
    validation = summary.get("validation_accuracy")
    if epoch == BEST:
        validation = _validation_in(run, summary["test_accuracy_selected"].get("epoch"))
    if validation is None:
        raise UserError(
            f"Run '{run}' had no validation images, and test images are not for choosing: name the student, one of "
            f"{', '.join(students)}."
        )
    accuracies = {student: validation["students"][student] for student in students}
    best = max(accuracies, key=lambda student: accuracies[student])
    told = ", ".join(f"{student} {accuracy:.2f} %" for student, accuracy in accuracies.items())
    return Chosen(best, f"the best by validation accuracy ({told})", epoch, digests.get(best))


def _validation_in(run: Path, epoch: int) -> Any:
    """The accuracies on validation images after that epoch, counted from 1."""
    lines = (line for line in run_files.read_metrics(run) if (line["kind"], line["epoch"]) == ("epoch", epoch))
    return next(lines, {}).get("validation_accuracy")
