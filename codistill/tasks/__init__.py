"""Auxiliary tasks by name. To add one: a file, a test, a line here."""

from codistill.tasks.contrastive import Contrastive
from codistill.tasks.rotation import Rotation
from codistill.tasks.supcon import SupCon
from codistill.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "rotation": Rotation,
    "contrastive": Contrastive,
    "supcon": SupCon,
}

__all__ = ["TASKS", "Contrastive", "Rotation", "SupCon", "Task"]
