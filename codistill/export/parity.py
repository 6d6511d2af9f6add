"""Whether an exported file answers as the network it was made from, and how well: on every test image."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codistill.data.loader import EvaluationLoader
from codistill.export.types import Answer

# Of the largest logit (or of 1): a hundred times what kernels differ by, far less than any mistake makes.
TOLERANCE = 1e-4


class Measured(NamedTuple):
    """On the whole test split. Accuracies in percent."""

    images: int
    accuracy: float  # of the file
    accuracy_before: float  # of the network in PyTorch
    largest_difference: float  # of a logit
    allowed_difference: float
    equal_answers: float  # share of images, in percent

    @property
    def same(self) -> bool:
        return self.largest_difference <= self.allowed_difference


def measure(network: Callable[[Tensor], Tensor], answer: Answer, test: EvaluationLoader) -> Measured:
    """The network sees images as evaluation shows them; the file sees pixels in [0, 1]."""
    images = right = right_before = equal = 0
    difference = largest = 0.0
    for batch in test:
        pixels = test.images.pixels[images : images + len(batch.labels)].permute(0, 3, 1, 2)
        logits = answer(np.ascontiguousarray(pixels.numpy(), dtype=np.float32) / np.float32(255))
        with torch.inference_mode():
            expected = network(batch.images).float().numpy()
        labels = batch.labels.numpy()
        answers, before = logits.argmax(axis=1), expected.argmax(axis=1)
        images += len(labels)
        right, right_before = right + int((answers == labels).sum()), right_before + int((before == labels).sum())
        equal += int((answers == before).sum())
        # A logit that is not a number differs from all others, so that it cannot pass for the same.
        difference = max(difference, float(np.nan_to_num(np.abs(logits - expected), nan=np.inf).max()))
        largest = max(largest, float(np.abs(expected).max()))
    percent = [100.0 * count / images for count in (right, right_before, equal)]
    return Measured(images, percent[0], percent[1], difference, TOLERANCE * max(1.0, largest), percent[2])
