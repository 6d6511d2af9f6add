"""What the library costs a step: mutual learning by a cohort against the same written out by hand.

    python benchmarks/framework_tax.py

Both have the same two ResNet-32, weights and batches, channels-last, one after the other on all threads, the same
optimizer. Rounds of steps in turn, in one process. Prints the median of the rounds' ratios, cohort / by hand.
"""

import argparse
import copy
import json
import time
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from codistill import Batch, Cohort, Objective, Student, observe_shapes
from codistill.methods import METHODS
from codistill.models import MODELS
from codistill.training.meter import Meter

SETTINGS = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}


def kl(learner: Tensor, target: Tensor) -> Tensor:
    return F.kl_div(learner.log_softmax(1), target.log_softmax(1), reduction="batchmean", log_target=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--model", default="resnet32")
    args = parser.parse_args()

    torch.manual_seed(0)
    students = {name: Student(MODELS[args.model](), 100) for name in ("a", "b")}
    first, second = (copy.deepcopy(student).to(memory_format=torch.channels_last) for student in students.values())
    method = METHODS["dml"]({name: observe_shapes(student, (3, 32, 32)) for name, student in students.items()})
    cohort = Cohort(students, {}, method).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective, meter = Objective(method.weights), Meter()
    groups = [{"params": parameters} for parameters in cohort.parameter_groups().values()]
    ours = torch.optim.SGD(groups, **SETTINGS)  # type: ignore[arg-type]
    theirs = torch.optim.SGD([*first.parameters(), *second.parameters()], **SETTINGS)  # type: ignore[arg-type]

    def by_cohort(images: Tensor, labels: Tensor) -> Tensor:
        losses = cohort(Batch(images, labels))
        loss = objective(losses)
        ours.zero_grad()
        loss.backward()
        ours.step()
        cohort.after_step()
        meter.update(losses)
        return loss

    def by_hand(images: Tensor, labels: Tensor) -> Tensor:
        a, b = first(images).logits, second(images).logits
        loss = F.cross_entropy(a, labels) + F.cross_entropy(b, labels) + kl(a, b.detach()) + kl(b, a.detach())
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        return loss

    images = torch.randn(args.steps, 128, 3, 32, 32)
    batches = [(i.contiguous(memory_format=torch.channels_last), torch.randint(0, 100, (128,))) for i in images]
    differences, ratios = [], []
    for number in range(args.rounds + 1):  # the first warms up
        seconds = {}
        for step in (by_cohort, by_hand) if number % 2 else (by_hand, by_cohort):
            began = time.perf_counter()
            last = [step(*batch).item() for batch in batches]
            seconds[step] = time.perf_counter() - began, last
        if number:
            ratios.append(seconds[by_cohort][0] / seconds[by_hand][0])
        else:
            pairs = zip(seconds[by_cohort][1], seconds[by_hand][1], strict=True)
            differences = [abs(one - other) / other for one, other in pairs]
    spread = {"median": round(median(ratios), 4), "min": round(min(ratios), 4), "max": round(max(ratios), 4)}
    print(json.dumps({"ratio": spread, "loss_difference": max(differences), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
