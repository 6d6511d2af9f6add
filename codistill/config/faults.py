"""What can be wrong with one student on purpose, to see whether its peers suffer (``codistill stress``)."""

import torch
from pydantic import Field, model_validator
from torch import Tensor

from codistill.config.resolve import Section
from codistill.errors import UserError


class Poison(Section):
    """One student, and one thing that is wrong with it."""

    student: str
    random_labels: float | None = Field(None, gt=0, le=1)  # share of the training images, with a label of any class
    learning_rate: float | None = Field(None, gt=0)  # times everybody else's
    reinitialise: float | None = Field(None, gt=0, lt=1)  # after this share of training its weights are drawn anew

    @model_validator(mode="after")
    def _one_thing(self) -> "Poison":
        kinds = ("random_labels", "learning_rate", "reinitialise")
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise UserError(f"poison should name a student and one of {', '.join(kinds)}.")
        return self


def wrong_labels(labels: Tensor, num_classes: int, share: float, seed: int) -> Tensor:
    """(n,) labels of which a random ``share`` is drawn anew from all classes: some of them are right by chance."""
    # A stream of its own: the loader's for seed 0 and its first epoch is that of 0, and would show these images first.
    generator = torch.Generator().manual_seed((seed + 1_999_999_973) % 2**32)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    told = labels.clone()
    told[chosen] = torch.randint(num_classes, (len(chosen),), generator=generator)
    return told
