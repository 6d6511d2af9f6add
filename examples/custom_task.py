"""An auxiliary task of your own: from an image with hidden parts, tell how bright each quarter of the whole one is.

python examples/custom_task.py --epochs 20
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from plain_loop import digits, run
from torch import Tensor, nn

from codistill import Batch, Cohort, Objective, Student, StudentOutput, StudentShape, Task, observe_shapes
from codistill.methods import dml
from codistill.models import CifarResNet


class Brightness(Task):
    """The mean of each quarter of an image, told from its masked view: of a 4 x 4 grid some cells are hidden."""

    def __init__(self, shape: StudentShape, *, hidden: int = 6) -> None:
        super().__init__()
        self.view = f"masked{hidden}"
        self.views = (self.view,)  # the student is shown these, besides the upright image
        self.head = nn.Linear(shape.embedding, 4)  # leaves with the task, when training ends

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        told = self.head(seen[self.view].embedding)  # (B, 4)
        true = F.adaptive_avg_pool2d(batch.images.mean(dim=1), 2).flatten(1)  # (B, C, H, W) -> (B, 4)
        return F.mse_loss(told, true)


if __name__ == "__main__":
    torch.manual_seed(0)
    students = {"a": Student(CifarResNet(8), num_classes=10), "b": Student(CifarResNet(8), num_classes=10)}
    shapes = {name: observe_shapes(student, (3, 8, 8)) for name, student in students.items()}
    method = dml(shapes)
    cohort = Cohort(students, {"a": {"brightness": Brightness(shapes["a"])}}, method)
    run(cohort, Objective({**method.weights, "a/brightness": 0.5}), *digits())
