"""One training step in its three parts, so that whoever measures may stand between them."""

import torch
from torch import Tensor

from codistill.batch import Batch
from codistill.cohort import Cohort
from codistill.engine.burn_in import BurnIn
from codistill.engine.runtime import Runtime
from codistill.engine.scaling import Scaling
from codistill.objective import Objective


class Step:
    """Forward, backward, update, for a cohort that lies on the runtime's device.

    scaling: of this optimizer, for whoever wants to log and save it.
    """

    def __init__(
        self,
        cohort: Cohort,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        runtime: Runtime,
        clip_norm: float | None = None,
        scaling: Scaling | None = None,
    ) -> None:
        self._cohort = cohort
        self._losses = runtime.processes.wrap(runtime.compiled(cohort))
        self._objective = objective
        self._optimizer = optimizer
        self._runtime = runtime
        self._clip_norm = clip_norm
        self._scaling = scaling or Scaling(optimizer, runtime)

    def forward(self, batch: Batch, progress: float, burn_in: BurnIn | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Every loss by name, and the objective, or those of ``burn_in``; ``progress`` is what ramps go by."""
        with self._runtime.autocast():
            if burn_in is not None:
                return burn_in.losses(batch)
            losses = self._losses(batch)
            return losses, self._objective(losses, progress)

    def backward(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._scaling.scale(loss).backward()

    def update(self, learning_rate: float) -> None:
        self._scaling.unscale()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_factor"]
            if self._clip_norm is not None:  # by group: a norm over all would couple the students
                torch.nn.utils.clip_grad_norm_(group["params"], self._clip_norm)
        self._cohort.after_step(self._scaling.step())
