"""What a trained cohort says of every image of a split: the raw material of ``codistill analyse``.

Logits in single precision, so that nobody's answer changes; embeddings in half, which is enough for their geometry. In
all n (4 K (N + 1) + 2 (D_1 + ... + D_N)) bytes: 15 MB for 10,000 images of 100 classes, two students of width 64 and a
teacher. Maps of the stages would be a hundred times that, and are not kept.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.training.runtime import Runtime

MOST_BYTES = 2**28  # a run that would have to write more at its end leaves that to ``codistill analyse``
_LARGEST = torch.finfo(torch.float16).max


def collect(cohort: Cohort, batches: Iterable[Batch], runtime: Runtime) -> dict[str, Tensor]:
    """``labels`` (n,), ``logits/NAME`` (n, K) of students and the teacher, ``embeddings/NAME`` (n, D), on the CPU."""
    parts: dict[str, list[Tensor]] = {}
    with runtime.only_looking(cohort):
        for batch in batches:
            outputs = cohort.see(batch.images)
            logits = cohort.logits(outputs)
            found = {"labels": batch.labels}
            found |= {f"logits/{name}": logits[name].float() for name in cohort.speakers}
            for name, output in outputs.items():
                found[f"embeddings/{name}"] = output.embedding.float().clamp(-_LARGEST, _LARGEST).half()
            for key, tensor in found.items():
                parts.setdefault(key, []).append(tensor.cpu())
    return {key: torch.cat(own) for key, own in parts.items()}


def size(cohort: Cohort, images: int, classes: int) -> int:
    """How many bytes ``collect`` finds."""
    widths = sum(student.classifier.in_features for student in cohort.students.values())  # type: ignore[union-attr,misc]
    return int(images * (8 + 4 * classes * len(cohort.speakers) + 2 * widths))
