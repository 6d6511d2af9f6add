"""Starting from a student of an earlier run: ``{name: resnet20, pretrained: runs/a/students/resnet20.safetensors}``.

It may have had other classes and images of another size: the backbone's weights are taken, and the classifier is new.
"""

from pathlib import Path
from typing import Any

from torch import nn

from codistill.errors import UserError
from codistill.storage.student_file import read_facts, read_student_file
from codistill.storage.weights import load_weights

PREFIX = "backbone."  # of its weights among a student's


def is_of_a_student(file: Any) -> bool:
    """Whether what a setting names is the file of a student, and not weights of some other origin."""
    try:
        read_facts(Path(file).expanduser())
    except (UserError, TypeError, OSError):
        return False
    return True


def start_from(file: str, backbone: nn.Module, name: str) -> None:
    """Give ``backbone``, of model ``name``, the weights of a student. Raises UserError for one of another model."""
    facts, weights = read_student_file(Path(file).expanduser())
    own = {key.removeprefix(PREFIX): weight for key, weight in weights.items() if key.startswith(PREFIX)}
    model = facts["model"] if isinstance(facts["model"], str) else facts["model"]["name"]
    load_weights(backbone, own, file, f"'{name}' with these settings, for they are a {model}'s")
