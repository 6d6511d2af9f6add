"""A method of your own: everybody learns from the others, and from those most who are surest of themselves.

    python examples/custom_method.py --epochs 20

In METHODS it is a method like any other for everything else that this process does with the Python API.
"""

from collections.abc import Mapping

import torch
from plain_loop import digits, run
from pydantic import PositiveFloat
from torch import Tensor

from codistill import (
    Batch,
    Cohort,
    Lesson,
    Method,
    Objective,
    Ramp,
    Student,
    StudentOutput,
    StudentShape,
    Target,
    Taught,
    Teacher,
    make_config,
    observe_shapes,
)
from codistill.core.losses import KL
from codistill.methods import METHODS
from codistill.models import CifarResNet


def certainty(logits: Tensor) -> Tensor:
    """(B, K) -> scalar: minus the mean entropy of the predictions, in nats."""
    log_probability = logits.log_softmax(dim=1)
    return (log_probability.exp() * log_probability).sum(dim=1).mean()


class SurestPeers(Teacher):
    """Each learner's targets are the other students' logits, weighed by a softmax of their certainty."""

    def __init__(self, students: list[str]) -> None:
        super().__init__()
        self.students = students

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        targets = {}
        for learner in self.students:
            logits = [outputs[name].logits for name in self.students if name != learner]
            weights = torch.stack([certainty(peer) for peer in logits]).softmax(dim=0)  # (M,)
            targets[learner] = Target(torch.stack(logits), weights)  # the cohort detaches it
        return Taught(targets, losses={})


def surest(
    shapes: Mapping[str, StudentShape], *, temperature: PositiveFloat = 2.0, weight: PositiveFloat = 1.0
) -> Method:
    """The lesson "peers" gives every student a loss ``NAME/peers_kl``. Keyword arguments are the method's settings."""
    return Method(
        lessons={"peers": Lesson(SurestPeers(list(shapes)), {"kl": KL(temperature)})},
        weights={"*/ce": 1.0, "*/peers_kl": Ramp(weight, over=0.3)},
    )


METHODS["surest"] = surest

if __name__ == "__main__":
    torch.manual_seed(0)
    students = {name: Student(CifarResNet(8), num_classes=10) for name in "abc"}
    method = surest({name: observe_shapes(student, (3, 8, 8)) for name, student in students.items()})
    run(Cohort(students, {}, method), Objective(method.weights), *digits())
    config = make_config({"method": {"name": "surest", "temperature": 4}})  # as codistill.train takes it
    print(config.method)
