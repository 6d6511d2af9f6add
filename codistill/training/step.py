"""One training step in its three parts, so that whoever measures may stand between them."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.core.objective import Objective
from codistill.training.amp import Scaling
from codistill.training.burn_in import BurnIn
from codistill.training.error_hints import Uncompilable, compiler_says
from codistill.training.runtime import Runtime


class Step:
    """Forward, backward, update, for a cohort that lies on the runtime's device.

    scaling: of this optimizer, for whoever wants to log and save it. warn: called once, in words, if the runtime's
    ``compile="auto"`` wants to compile what cannot be compiled; training then goes on without. Raises Uncompilable
    where compiling was asked for.
    """

    def __init__(
        self,
        cohort: Cohort,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        runtime: Runtime,
        clip_norm: float | None = None,
        scaling: Scaling | None = None,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        compiled = runtime.compiled(cohort)
        self._cohort = cohort
        self._losses = runtime.processes.wrap(compiled)
        self._objective = objective
        self._optimizer = optimizer
        self._runtime = runtime
        self._clip_norm = clip_norm
        self._scaling = scaling or Scaling(optimizer, runtime)
        self._warn = warn
        self._compiles_unasked = runtime.compile == "auto" and compiled is not cohort
        self._proven: set[bool] = set()  # whether a whole step was taken, without burn-in and in it
        self._first: _Beginning | None = None

    def forward(self, batch: Batch, progress: float, burn_in: BurnIn | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Every loss by name, and the objective, or those of ``burn_in``; ``progress`` is what ramps go by."""
        if self._compiles_unasked and (burn_in is not None) not in self._proven:
            self._first = _Beginning(self._cohort, self._runtime.device, batch, progress, burn_in)
        try:
            return self._forward(batch, progress, burn_in)
        except Exception as error:
            if self._without_compiling(error) is None:
                raise
            return self._forward(batch, progress, burn_in)

    def backward(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        try:
            self._scaling.scale(loss).backward()
        except Exception as error:  # the backward pass is compiled when it is first called
            first = self._without_compiling(error)
            if first is None:
                raise
            self._optimizer.zero_grad(set_to_none=True)
            self._scaling.scale(self._forward(first.batch, first.progress, first.burn_in)[1]).backward()
        if self._first is not None:
            self._proven.add(self._first.burn_in is not None)
            self._first = None

    def update(self, learning_rate: float) -> None:
        self._scaling.unscale()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_factor"]
            if self._clip_norm is not None:  # by group: a norm over all would couple the students
                torch.nn.utils.clip_grad_norm_(group["params"], self._clip_norm)
        self._cohort.after_step(self._scaling.step())

    def _forward(self, batch: Batch, progress: float, burn_in: BurnIn | None) -> tuple[dict[str, Tensor], Tensor]:
        with self._runtime.autocast():
            if burn_in is not None:
                return burn_in.losses(batch)
            losses = self._losses(batch)
            return losses, self._objective(losses, progress)

    def _without_compiling(self, error: Exception) -> "_Beginning | None":
        """If the compiler failed and nobody had asked for it: how the step began, to which all is put back.

        Raises Uncompilable if it had been asked for.
        """
        said = compiler_says(error)
        if said is None:
            return None
        if self._first is None:
            raise Uncompilable(said) from error
        self._first.restore()
        self._compiles_unasked, self._losses = False, self._cohort
        if self._first.burn_in is not None:
            self._first.burn_in.compile_no_more()
        self._warn(f"compile=auto: nothing is compiled here, so steps are slower. {said} compile=false says nothing.")
        return self._first


class _Beginning:
    """What a first step began with, to take it again. batch, progress, burn_in: of that step."""

    def __init__(
        self, cohort: Cohort, device: torch.device, batch: Batch, progress: float, burn_in: BurnIn | None
    ) -> None:
        self.batch, self.progress, self.burn_in, self._device = batch, progress, burn_in, device
        self._buffers = [(buffer, buffer.clone()) for buffer in cohort.buffers()]
        self._random = torch.get_rng_state()
        self._random_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Statistics and random numbers as they were."""
        for buffer, before in self._buffers:
            buffer.copy_(before)
        torch.set_rng_state(self._random)
        if self._random_there is not None:
            torch.cuda.set_rng_state(self._random_there, self._device)
