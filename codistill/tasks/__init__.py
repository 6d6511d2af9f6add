"""Auxiliary tasks by name. To add one: a file, a test, a line here."""

from codistill.core.task import Task
from codistill.tasks.coarse import Coarse
from codistill.tasks.colour import Colour
from codistill.tasks.contrastive import Contrastive
from codistill.tasks.jigsaw import Jigsaw
from codistill.tasks.reconstruction import Reconstruction
from codistill.tasks.rotation import Rotation
from codistill.tasks.rotation_only import RotationOnly
from codistill.tasks.simclr import SimCLR
from codistill.tasks.supcon import SupCon

TASKS: dict[str, type[Task]] = {
    "rotation": Rotation,
    "rotation_only": RotationOnly,
    "colour": Colour,
    "jigsaw": Jigsaw,
    "contrastive": Contrastive,
    "simclr": SimCLR,
    "supcon": SupCon,
    "reconstruction": Reconstruction,
    "coarse": Coarse,
}

__all__ = [
    "TASKS",
    "Coarse",
    "Colour",
    "Contrastive",
    "Jigsaw",
    "Reconstruction",
    "Rotation",
    "RotationOnly",
    "SimCLR",
    "SupCon",
    "Task",
]
