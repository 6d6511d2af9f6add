"""A method: one paper as data. Its teachers, through which losses they teach, and what each loss weighs."""

from collections.abc import Mapping
from typing import NamedTuple

from codistill.core.losses.base import Distill
from codistill.core.objective import Weight
from codistill.core.teacher import Teacher
from codistill.core.views import CLEAN


class Lesson(NamedTuple):
    """A teacher and the named losses that say how far each learner is from its target.

    ``views``: on which views it is held; every student then sees them. ``through_target=True`` lets the gradient flow
    into the teacher too (the paper must ask for it).
    """

    teacher: Teacher
    losses: Mapping[str, Distill]
    views: tuple[str, ...] = (CLEAN,)
    through_target: bool = False


class Method(NamedTuple):
    """Lessons in the order in which they are held, and the weights of the losses they give rise to.

    A learner's loss is named ``"<learner>/<lesson>_<loss>"``, a teacher's own loss ``"<lesson>/<loss>"``.

    ``own_augmentations``: each student sees an augmentation of its own. ``shared_trunk``: students share their first
    layers, and the gradient that the branches send into them is multiplied by ``trunk_gradient``.
    """

    lessons: Mapping[str, Lesson]
    weights: Mapping[str, Weight]
    own_augmentations: bool = False
    shared_trunk: bool = False
    trunk_gradient: float = 1.0
