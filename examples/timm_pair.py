"""Two models of timm as students: any that has timm's feature interface. Needs ``pip install timm``.

    python examples/timm_pair.py --epochs 10

With ``pretrained=True`` both would start from ImageNet; then normalise images as their ``pretrained_cfg`` says.
"""

import timm
import torch
import torch.nn.functional as F
from plain_loop import digits, run

from codistill import Batch, Cohort, Objective, Student, observe_shapes
from codistill.methods import dml

SIZE = 32  # these networks halve an image five times


def enlarged(batch: Batch) -> Batch:
    return batch._replace(images=F.interpolate(batch.images, size=SIZE, mode="bilinear"))


if __name__ == "__main__":
    torch.manual_seed(0)
    students = {
        "mobile": Student(timm.create_model("mobilenetv3_small_100", num_classes=0), num_classes=10),
        "resnet": Student(timm.create_model("resnet10t", num_classes=0), num_classes=10),
    }
    shapes = {name: observe_shapes(student, (3, SIZE, SIZE)) for name, student in students.items()}
    for name, shape in shapes.items():
        print(f"{name}: embedding of {shape.embedding}, last stage {shape.feature_maps[-1]}")
    method = dml(shapes)
    train, test = map(enlarged, digits())
    run(Cohort(students, {}, method), Objective(method.weights), train, test, epochs=5)
