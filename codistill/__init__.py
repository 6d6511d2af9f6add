"""codistill: peer (online) knowledge distillation in PyTorch. Several students learn together; one is deployed."""

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
