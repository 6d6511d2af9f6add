"""Your own training loop: a cohort is one module whose forward pass is the losses, an objective adds them up.

python examples/plain_loop.py --epochs 20
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from codistill import Batch, Cohort, Objective, Student, Task, observe_shapes
from codistill.methods import collaborative
from codistill.models import CifarResNet
from codistill.tasks import Rotation, SupCon


def digits() -> tuple[Batch, Batch]:
    """1,797 handwritten digits of 8 x 8 pixels in three equal channels: two thirds to train, one to test."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1) / 16 - 0.3
    labels = torch.tensor(data.target)
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = rows[:1198], rows[1198:]
    return Batch(images[train], labels[train]), Batch(images[test], labels[test])


def fit(cohort: Cohort, objective: Objective, train: Batch, epochs: int, size: int = 64) -> None:
    """SGD with one learning rate for all; the loop knows neither students nor method."""
    optimizer = torch.optim.SGD(cohort.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cohort.train()
    for epoch in range(epochs):
        for rows in torch.randperm(len(train.labels)).split(size)[:-1]:
            draws = torch.randint(0, 2**31 - 1, (len(rows),))  # for views that choose at random
            losses = cohort(Batch(train.images[rows], train.labels[rows], draws=draws))
            total = objective(losses, progress=epoch / epochs)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            cohort.after_step()  # for teachers that follow the students
        print(f"epoch {epoch + 1}: " + "  ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items()))


@torch.no_grad()
def accuracies(cohort: Cohort, test: Batch) -> dict[str, float]:
    """Of each student, and of each teacher that has an answer of its own; in percent."""

    def percent(logits: Tensor) -> float:
        return 100 * (logits.argmax(dim=1) == test.labels).float().mean().item()

    return {name: percent(logits) for name, logits in cohort.eval().predict(test.images).items()}


def run(cohort: Cohort, objective: Objective, train: Batch, test: Batch, epochs: int = 10) -> None:
    """Train, for another number of epochs if the command line has ``--epochs``, and print the test accuracies."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=epochs)
    fit(cohort, objective, train, parser.parse_args().epochs)
    print("test accuracy: " + "  ".join(f"{name} {percent:.1f}%" for name, percent in accuracies(cohort, test).items()))


if __name__ == "__main__":
    torch.manual_seed(0)
    students = {"small": Student(CifarResNet(8), num_classes=10), "large": Student(CifarResNet(14), num_classes=10)}
    shapes = {name: observe_shapes(student, (3, 8, 8)) for name, student in students.items()}
    tasks: dict[str, dict[str, Task]] = {
        "small": {"rotation": Rotation(shapes["small"])},
        "large": {"supcon": SupCon(shapes["large"])},
    }
    method = collaborative(shapes)
    weights = {**method.weights, "small/rotation": 1.0, "large/supcon": 0.1}
    run(Cohort(students, tasks, method), Objective(weights), *digits())
