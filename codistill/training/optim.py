"""What updates the weights, by name."""

from collections.abc import Callable

import torch
from torch.optim import SGD, AdamW, Optimizer

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "adamw": AdamW}


def start_over(optimizer: Optimizer, parameter: torch.nn.Parameter) -> None:
    """Forget what was remembered of one parameter's gradients (momentum, moments, steps)."""
    for remembered in optimizer.state[parameter].values():
        if isinstance(remembered, torch.Tensor):
            remembered.zero_()
