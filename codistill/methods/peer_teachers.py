"""Learning from what others said: each learner's target is the logits of some speakers, one by one or their mean.

Mutual learning is the former with everybody listening to everybody else.
"""

from collections.abc import Mapping, Sequence

import torch

from codistill.core.batch import Batch
from codistill.core.student import StudentOutput
from codistill.core.teacher import Target, Taught, Teacher
from codistill.methods.reliability import Reliability


def everybody_else(names: Sequence[str]) -> dict[str, list[str]]:
    """Each name with all the others.

    >>> everybody_else(["a", "b", "c"])
    {'a': ['b', 'c'], 'b': ['a', 'c'], 'c': ['a', 'b']}
    """
    return {name: [other for other in names if other != name] for name in names}


class Listen(Teacher):
    """Targets are the speakers' logits, each speaker counting 1 / (number of speakers) x its reliability."""

    def __init__(self, speakers: Mapping[str, Sequence[str]], reliability: Reliability | None = None) -> None:
        super().__init__()
        self.speakers = dict(speakers)  # learner -> whom it listens to
        self.reliability = reliability

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        trust = self.reliability.weights() if self.reliability else {}
        targets = {}
        for learner, speakers in self.speakers.items():
            logits = torch.stack([outputs[speaker].logits for speaker in speakers])
            weights = torch.stack(
                [trust[speaker] if trust else logits.new_ones((), dtype=torch.float32) for speaker in speakers]
            )
            targets[learner] = Target(logits, weights / len(speakers))
        return Taught(targets, losses={})


class MeanLogits(Teacher):
    """Each learner's target is one: the mean of its speakers' logits."""

    def __init__(self, speakers: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.speakers = dict(speakers)  # learner -> whom it listens to

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        targets = {}
        for learner, speakers in self.speakers.items():
            mean = torch.stack([outputs[speaker].logits for speaker in speakers]).mean(dim=0)  # (B, K)
            targets[learner] = Target(mean[None], mean.new_ones(1))
        return Taught(targets, losses={})
