"""codistill: peer (online) knowledge distillation in PyTorch. Several students learn together; one is deployed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codistill.batch import Batch
    from codistill.cohort import Cohort
    from codistill.errors import UserError
    from codistill.method import Lesson, Method
    from codistill.objective import Objective, Ramp
    from codistill.saved import load_student
    from codistill.student import Student, StudentOutput, StudentShape, observe_shapes
    from codistill.teacher import Target, Taught, Teacher

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Cohort",
    "Lesson",
    "Method",
    "Objective",
    "Ramp",
    "Student",
    "StudentOutput",
    "StudentShape",
    "Target",
    "Taught",
    "Teacher",
    "UserError",
    "load_student",
    "observe_shapes",
]

_MODULES = ("batch", "cohort", "errors", "method", "objective", "saved", "student", "teacher")


def __getattr__(name: str) -> Any:
    """Names above are imported when first asked for: the command line has to set threads up before torch is there."""
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"codistill.{module}")).get(name)
            if found is not None and found.__module__ == f"codistill.{module}":
                return found
    raise AttributeError(f"module 'codistill' has no attribute '{name}'")
