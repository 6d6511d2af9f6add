"""What is possible but hardly meant, in words that a run says before it trains. About models: ``models/advice.py``."""

from collections.abc import Iterable
from typing import cast

from torch import nn

from codistill.config.optimizer import OptimizerConfig
from codistill.core.cohort import Cohort
from codistill.data.fingerprint import imbalance, is_grey, names_alike, nearly_black
from codistill.data.images import Images
from codistill.models import Model, name_and_settings
from codistill.tasks import Task
from codistill.training.runtime import Runtime

HIGH_FOR_ADAMW = 0.02  # a learning rate
HIGH_FOR_SGD = 0.01  # a weight decay
# Steps of training. For as many forward passes, rotation cost two to five points in 900, at two sizes of image and
# network, and gained at the smaller size none or two in 1,650; jigsaw gained one or none in 1,260 (docs/results.md).
FEW_FOR_TASKS = 1000


def remark_on_length(cohort: Cohort, steps: int, models: Iterable[Model]) -> str:
    """On tasks that cost forward passes, set for a short training from scratch; empty if there is nothing to say."""
    costly = any(cohort.fractions) and any(sum(views.values()) > 1 for views in cohort.views_of.values())
    pretrained = any(name_and_settings(model)[1].get("pretrained") for model in models)
    if steps > FEW_FOR_TASKS or pretrained or not costly:
        return ""
    return (
        f"{steps:,} steps are few for tasks: at equal compute, 900 steps with rotation end below training without a "
        "task. Train longer, or set tasks=none."
    )


def warnings_of_data(images: Images, cohort: Cohort, order: str) -> list[str]:
    """``images``: for training; ``order``: in which the loader shows them."""
    warnings = [names_alike(images.class_names), nearly_black(images)]
    if order != "balanced":
        warnings.append(imbalance(images))
    if is_grey(images):
        warnings += [
            f"The images are grey: task '{name}' of student '{student}', which tells orders of colours apart, can "
            "learn nothing from them."
            for student, tasks in cohort.tasks.items()
            for name, task in cast(nn.ModuleDict, tasks).items()
            if any(view.startswith("colour") for view in cast(Task, task).views)
        ]
    return [warning for warning in warnings if warning is not None]


def warnings_of_optimizer(optimizer: OptimizerConfig) -> list[str]:
    """Settings that are meant for the other optimizer."""
    if optimizer.name == "sgd" and optimizer.weight_decay >= HIGH_FOR_SGD:
        return [
            f"optimizer.weight_decay={optimizer.weight_decay:g} is one for adamw: with sgd weights shrink faster than "
            "they learn. 0.0001 to 0.0005 is common."
        ]
    if optimizer.name == "adamw" and optimizer.lr >= HIGH_FOR_ADAMW:
        return [
            f"optimizer.lr={optimizer.lr:g} is a rate for sgd: with adamw networks hardly learn anything at it. Begin "
            "with 0.001, or with 0.0001 for pretrained students."
        ]
    return []


def warnings_of_cohort(cohort: Cohort, runtime: Runtime) -> list[str]:
    """Peers who are one, parts for training that outweigh the students, a precision that is slow here."""
    warnings = []
    if runtime.precision == "fp16" and runtime.device.type == "cpu":
        warnings.append(
            "precision=fp16 is slow on a CPU, slower than fp32: it is meant for GPUs without bf16. Set precision=fp32."
        )
    for one, other in cohort.identical_peers():
        warnings.append(f"Peers are identical: students '{one}' and '{other}' start from the same weights.")
    students, training_only = cohort.parameter_counts()
    if training_only > sum(students.values()):
        warnings.append(
            f"The parts for training only have {training_only:,} parameters, more than the students together "
            f"({sum(students.values()):,}). They leave after training, but they cost memory and time until then."
        )
    return warnings
