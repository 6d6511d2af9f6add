"""codistill: peer (online) knowledge distillation in PyTorch. Several students learn together; one is deployed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codistill.batch import Batch
    from codistill.cohort import Cohort
    from codistill.config import make_config
    from codistill.distill.distill import Distill
    from codistill.errors import UserError
    from codistill.finished import evaluate_run
    from codistill.method import Lesson, Method
    from codistill.objective import Objective, Ramp
    from codistill.runs import train
    from codistill.saved import load_student
    from codistill.student import Student, StudentOutput, StudentShape, observe_shapes
    from codistill.tasks.task import Task
    from codistill.teacher import Target, Taught, Teacher

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
    *("errors", "batch", "objective", "student", "teacher", "method", "distill.distill", "tasks.task"),
    *("cohort", "saved", "config", "finished", "runs"),
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
