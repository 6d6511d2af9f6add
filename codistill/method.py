"""A method: one paper as data. Its teachers, through which losses they teach, and what each loss weighs."""

from collections.abc import Mapping
from typing import NamedTuple

from codistill.distill.distill import Distill
from codistill.objective import Weight
from codistill.teacher import Teacher


class Lesson(NamedTuple):
    """A teacher and the named losses that say how far each learner is from its target.

    ``through_target=True`` lets the gradient flow into the teacher too (the paper must ask for it).
    """

    teacher: Teacher
    losses: Mapping[str, Distill]
    through_target: bool = False


class Method(NamedTuple):
    """Lessons in the order in which they are held, and the weights of the losses they give rise to.

    A learner's loss is named ``"<learner>/<lesson>_<loss>"``, a teacher's own loss ``"<lesson>/<loss>"``.
    """

    lessons: Mapping[str, Lesson]
    weights: Mapping[str, Weight]
