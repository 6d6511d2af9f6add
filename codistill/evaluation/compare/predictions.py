"""Which test images were answered rightly in a run, from the raw material in its folder. No torch in here."""

import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codistill.errors import UserError
from codistill.metrics.probabilities import ensemble, log_softmax
from codistill.metrics.raw import read_raw


class Right(NamedTuple):
    """Of each of n test images, whether each answer was right: arrays (n,)."""

    labels: NDArray[np.integer]
    students: dict[str, NDArray[np.bool_]]  # in their order
    teacher: NDArray[np.bool_] | None
    ensemble: NDArray[np.bool_]


def read_right(run: Path, sha256: dict[str, str]) -> Right | None:
    """What was right; None where a run kept no answers. ``sha256``: of the students' files, as the summary has it.

    Raises UserError for a file that cannot be read, and for answers of other weights than the run's.
    """
    path = run / "outputs" / "test.safetensors"
    if not path.exists():
        return None
    raw = read_raw(run, "test")
    if sha256 and raw.sha256 != sha256:
        raise UserError(
            f"'{path}' holds the answers of other weights than the run's students have now. Delete it, and make it "
            f"anew: {shlex.join(['codistill', 'analyse', str(run)])}"
        )
    right = {name: logits.argmax(axis=-1) == raw.labels for name, logits in raw.logits.items()}
    together = ensemble([log_softmax(raw.logits[name]) for name in raw.students]).argmax(axis=-1) == raw.labels
    students = {name: right[name] for name in raw.students}
    return Right(raw.labels, students, None if raw.teacher is None else right[raw.teacher], together)
