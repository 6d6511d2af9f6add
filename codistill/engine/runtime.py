"""Where and how a cohort runs: device, precision, memory layout, compilation."""

import resource
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from codistill.cohort import Cohort
from codistill.errors import UserError


@dataclass(frozen=True)
class Runtime:
    """precision: "fp32" or "bf16" (autocast). compile: trade half a minute at the start for faster steps."""

    device: torch.device
    precision: str = "fp32"
    compile: bool = False

    def place(self, cohort: Cohort) -> Cohort:
        """Move a cohort to the device. Channels-last convolutions are faster on CPU and GPU alike."""
        return cohort.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step_module(self, cohort: Cohort) -> nn.Module:
        """What is called in each step: the cohort, or its compiled form."""
        return torch.compile(cohort, fullgraph=True) if self.compile else cohort  # type: ignore[return-value]

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def synchronise(self) -> None:
        """Wait for the device, before a clock is read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory_bytes(self) -> int:
        """The most memory held so far: by tensors on a GPU, by the whole process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def describe(self) -> str:
        """The device in words, with the number of threads on a CPU: it is part of what makes numbers repeatable."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU if there is one, else the CPU. Raises UserError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device={name} cannot be used here: {reason.rstrip('.')}. Choose auto or cpu.") from error
    return device
