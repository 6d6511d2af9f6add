"""codistill: peer (online) knowledge distillation in PyTorch. Several students learn together; one is deployed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codistill.config.schema import make_config
    from codistill.core.batch import Batch
    from codistill.core.cohort import Cohort
    from codistill.core.losses.base import Distill
    from codistill.core.method import Lesson, Method
    from codistill.core.objective import Objective, Ramp
    from codistill.core.student import Student, StudentOutput, StudentShape, observe_shapes
    from codistill.core.task import Task
    from codistill.core.teacher import Target, Taught, Teacher
    from codistill.errors import UserError
    from codistill.models.load import load_student
    from codistill.training.restore import evaluate_run
    from codistill.training.trainer import train

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Cohort",
    "Distill",
    "Lesson",
    "Method",
    "Objective",
    "Ramp",
    "Student",
    "StudentOutput",
    "StudentShape",
    "Target",
    "Task",
    "Taught",
    "Teacher",
    "UserError",
    "evaluate_run",
    "load_student",
    "make_config",
    "observe_shapes",
    "train",
]

# Where they are, the quickest to import first.
_MODULES = (
    "errors",
    "core.batch",
    "core.objective",
    "core.student",
    "core.teacher",
    "core.method",
    "core.losses.base",
    "core.task",
    "core.cohort",
    "models.load",
    "config.schema",
    "training.restore",
    "training.trainer",
)


def __getattr__(name: str) -> Any:
    """Names above are imported when first asked for: the command line has to set threads up before torch is there."""
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"codistill.{module}")).get(name)
            if found is not None and found.__module__ == f"codistill.{module}":
                return found
    raise AttributeError(f"module 'codistill' has no attribute '{name}'")


def __dir__() -> list[str]:
    """With the names that were not asked for yet: for who completes names."""
    return sorted({*globals(), *__all__})
