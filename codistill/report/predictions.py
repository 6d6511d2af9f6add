"""Which test images were answered rightly in a run, from the raw material in its folder. No torch in here.

``outputs/test.safetensors`` holds ``labels`` (n,) and ``logits/NAME`` (n, K) of students and the teacher.
"""

import json
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from codistill.errors import UserError


class Right(NamedTuple):
    """Of each of n test images, whether each answer was right: arrays (n,)."""

    labels: NDArray[np.integer]
    students: dict[str, NDArray[np.bool_]]  # in the order of ``students`` below
    teacher: NDArray[np.bool_] | None
    ensemble: NDArray[np.bool_]


def read_right(run: Path, students: list[str], sha256: dict[str, str]) -> Right | None:
    """What was right; None where a run kept no answers. ``sha256``: of the students' files, as the summary has it.

    Raises UserError for a file that cannot be read, and for answers of other weights than the run's.
    """
    path = run / "outputs" / "test.safetensors"
    if not path.exists():
        return None
    anew = f"Delete it, and make it anew: codistill analyse {shlex.quote(str(run))}"
    try:
        with safe_open(path, framework="numpy") as file:
            about = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            labels = file.get_tensor("labels")
            teacher = about.get("teacher")
            logits = {name: file.get_tensor(f"logits/{name}") for name in (*students, *([teacher] if teacher else []))}
    except Exception as error:  # safetensors has no one error class of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"'{path}' cannot be read: {reason}. {anew}") from error
    if sha256 and about.get("sha256", sha256) != sha256:
        raise UserError(f"'{path}' holds the answers of other weights than the run's students have now. {anew}")
    together = np.mean([_probabilities(logits[name]) for name in students], axis=0)
    return Right(
        labels,
        {name: logits[name].argmax(axis=-1) == labels for name in students},
        logits[teacher].argmax(axis=-1) == labels if teacher else None,
        together.argmax(axis=-1) == labels,
    )


def _probabilities(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
