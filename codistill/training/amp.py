"""What fp16 adds to a step: the loss is scaled, and a step whose gradients overflow is skipped.

fp16 knows no number above 65,504 and none below 6e-8. So the objective is multiplied by a scale before the backward
pass, which keeps small gradients from vanishing, and the gradients are divided by it before anybody uses them. Where
one of them is not finite no weight moves and the scale is halved; after 2000 steps without such a thing it is doubled.
There is one scale, as there is one objective and one optimizer; it begins at 2^16.

Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, arXiv:1710.03740; ``torch.amp.GradScaler``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from codistill.training.meter import DivergedError
from codistill.training.runtime import Runtime

# fp16's smallest number of full precision: a scale below it makes gradients vanish, and saves none from overflow.
# It takes 30 skipped steps in a row to come down to here from 2^16.
SMALLEST_SCALE = 2.0**-14


class Scaling:
    """Scales one loss and steps one optimizer. In any other precision than fp16 it does neither more nor less.

    Only ``figures`` and ``state`` wait for the device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, runtime: Runtime) -> None:
        self._optimizer = optimizer
        self._on = runtime.precision == "fp16"
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=self._on)
        self._one = torch.ones((), device=runtime.device)
        self._skipped = torch.zeros((), dtype=torch.int64, device=runtime.device)
        if self._on:
            _begin_momentum(optimizer)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to differentiate."""
        return self._scaler.scale(loss)

    def unscale(self) -> None:
        """Make the gradients those of the loss itself again. To be called once, before they are clipped."""
        self._scaler.unscale_(self._optimizer)

    def step(self) -> Tensor | float:
        """Update the weights unless a gradient is not finite. Returns 1 if they were updated and 0 if not."""
        if not self._on:
            self._optimizer.step()
            return 1.0
        before = self._scaler.scale(self._one)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        # The scale falls after a skipped step, and only then: this can be told on the device, without a look at it.
        taken = self._scaler.scale(self._one) >= before
        self._skipped += ~taken
        return taken.float()

    def figures(self) -> dict[str, int]:
        """For logs: how many steps were skipped since training began. Nothing in other precisions than fp16.

        Raises DivergedError if gradients are not finite at any scale.
        """
        if not self._on:
            return {}
        skipped = int(self._skipped)
        if self._scaler.get_scale() < SMALLEST_SCALE:
            raise DivergedError(
                f"Gradients are NaN or infinite in fp16 however small the scale of the loss: {skipped} steps were "
                "skipped. Set precision=bf16 or precision=fp32, or a lower optimizer.lr."
            )
        return {"skipped_steps": skipped}

    def state(self) -> dict[str, Any]:
        """For a checkpoint; empty in other precisions than fp16."""
        return {"scaler": self._scaler.state_dict(), "skipped": int(self._skipped)} if self._on else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        if self._on:
            self._scaler.load_state_dict(state["scaler"])
            self._skipped.fill_(state["skipped"])


def _begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """From zero, as it would begin anyway. PyTorch's fused SGD begins with whatever lay in memory if its very first
    step is skipped, and at the first scale that step often is."""
    for group in optimizer.param_groups:
        if group.get("momentum"):
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
