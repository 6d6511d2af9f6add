"""Where and how a cohort runs: device, precision, memory layout, compilation, threads."""

import os
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from codistill.core.cohort import Cohort
from codistill.core.threaded_forward import SideBySide, draws_random_numbers
from codistill.errors import UserError, first_line
from codistill.training.allocator import give_back_freed_memory, keep_freed_memory
from codistill.training.distributed.process_group import ALONE, Processes
from codistill.training.optim import OPTIMIZERS

Compile = Literal["auto", "cuda_graphs"] | bool
Auto = Literal["auto"] | bool
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """How to run a cohort.

    precision: "fp32", or "bf16" or "fp16" by autocast. compile: trade a minute at the start for faster steps; "auto"
    does where there is a GPU and the first step can be compiled, "cuda_graphs" moreover replays a whole pass as one
    launch. side_by_side: students in a thread each; "auto" does on a CPU wherever it changes no results.
    sync_batchnorm: batch normalisation over the images of all processes. With several processes "auto" is off in both
    cases.
    """

    device: torch.device
    precision: str = "fp32"
    compile: Compile = False
    side_by_side: Auto = "auto"
    sync_batchnorm: bool = False
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        if self.sync_batchnorm and self.device.type != "cuda":
            raise UserError(f"sync_batchnorm=true needs CUDA devices, not {self.device.type}. Set it to false.")
        if self.processes.count > 1 and self.compile == "cuda_graphs":
            raise UserError("compile=cuda_graphs is for one process; there are several. Set compile=true, or false.")
        if self.processes.sharded and self.compile is True:
            raise UserError(
                "compile=true does not go with sharding=parameters. Leave it at auto, or set sharding=none."
            )
        if self.processes.count > 1 and self.side_by_side is True:
            raise UserError("side_by_side=true is for one process; there are several. Leave it at auto.")
        if self.compile == "cuda_graphs" and self.device.type != "cuda":
            raise UserError(f"compile=cuda_graphs needs a CUDA device, not {self.device.type}. Set compile=true.")
        if self.side_by_side is True and self.device.type != "cpu":
            raise UserError(f"side_by_side=true is for CPUs; the device is {self.device.type}. Leave it at auto.")

    def place(self, cohort: Cohort, image_shape: tuple[int, int, int]) -> Cohort:
        """Move a cohort, for images of (C, H, W), to the device. Channels-last convolutions are faster everywhere."""
        if self.sync_batchnorm and self.processes.count > 1:
            check_synchronisable(cohort)
            synchronise_batchnorm(cohort)
        cohort = cohort.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.device.type == "cpu":
            if self.processes.sharded:
                give_back_freed_memory()
            else:
                keep_freed_memory()
            if self._goes_side_by_side(cohort, image_shape):
                cohort.look = SideBySide(len(cohort.students), torch.get_num_threads())
        return cohort

    def compiled(self, cohort: Cohort) -> nn.Module:
        """What is called in each step: the cohort, its compiled form, or the cohort with compiled students.

        On a CPU each student is compiled by itself: threads do not go into one graph, and the losses cost little.
        """
        if not self._compiles:
            return cohort
        torch.compiler.reset()  # it counts every cohort that this process compiled, and gives up after eight
        if self.device.type == "cpu" and not cohort.method.shared_trunk:
            for student in cohort.students.values():
                student.compile(fullgraph=True)
            return cohort
        mode = "reduce-overhead" if self.compile == "cuda_graphs" else None
        return torch.compile(cohort, fullgraph=True, mode=mode)  # type: ignore[return-value]

    def compiled_student(self, student: nn.Module) -> nn.Module:
        """One student that is called alone, after ``compiled`` was asked for its cohort."""
        if self.device.type == "cuda" and self._compiles:
            mode = "reduce-overhead" if self.compile == "cuda_graphs" else None
            return torch.compile(student, fullgraph=True, mode=mode)  # type: ignore[return-value]
        return student  # on a CPU it is compiled in place, if at all

    @property
    def _compiles(self) -> bool:
        if self.compile == "auto":
            return self.device.type == "cuda" and self.processes.count == 1
        return bool(self.compile)

    def optimizer(
        self, cohort: Cohort, lr_factors: Mapping[str, float] | None = None, *, name: str = "sgd", **settings: Any
    ) -> torch.optim.Optimizer:
        """A group for each student, task and teacher; all tensors at once where there is such a kernel.

        name: in ``OPTIMIZERS``, which says what ``settings`` there are. lr_factors: for the groups of these students,
        times the learning rate of the others.
        """
        factors = lr_factors or {}
        groups = [
            {"params": own, "name": group, "lr_factor": factors.get(group.split("/")[0], 1.0)}
            for group, own in cohort.parameter_groups().items()
        ]
        if self.processes.sharded:  # there is no fused kernel for parts
            return OPTIMIZERS[name](groups, foreach=True, **settings)
        return OPTIMIZERS[name](groups, fused=self.device.type in ("cpu", "cuda"), **settings)

    def autocast(self) -> AbstractContextManager[None]:
        dtype = HALVES.get(self.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    @contextmanager
    def only_looking(self, cohort: Cohort) -> Iterator[None]:
        """In here a cohort is evaluated: no gradients, nothing compiled. It is left in the mode it was in."""
        was_training = cohort.training
        cohort.eval()
        try:
            with (
                self.processes.whole_weights(cohort),
                torch.inference_mode(),
                self.autocast(),
                torch.compiler.set_stance("force_eager"),  # passes too few for compiling to be worth it
            ):
                yield
        finally:
            cohort.train(was_training)

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

    def free_memory_bytes(self) -> int:
        """What the device has left for data."""
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # a rule of thumb: half of the machine
        return half // self.processes.count

    def describe(self) -> str:
        """The device in words, with the number of threads on a CPU: it is part of what makes numbers repeatable."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}, {torch.get_num_threads()} threads"

    def _goes_side_by_side(self, cohort: Cohort, image_shape: tuple[int, int, int]) -> bool:
        """Whether to, and whether it can be. Raises UserError for a cohort that cannot and is told to."""
        if self.side_by_side is False or self.processes.count > 1:  # gradients would arrive in threads
            return False
        reasons = ["The method shares a trunk."] if cohort.method.shared_trunk else []
        reasons += [
            f"Student '{name}' draws random numbers (dropout): in threads, their order would not repeat."
            for name, student in cohort.students.items()
            if draws_random_numbers(student, image_shape)  # type: ignore[arg-type]
        ]
        if reasons and self.side_by_side is True:
            raise UserError(f"side_by_side=true is not possible. {reasons[0]} Leave it at auto, or set it to false.")
        return not reasons and torch.get_num_threads() > 1


def synchronise_batchnorm(module: nn.Module) -> None:
    """Batch normalisation over all processes, in place. A layer of several owners, as in a shared trunk, stays one."""
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        for name, part in parent._modules.items():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and not isinstance(part, nn.SyncBatchNorm):
                if part not in made:
                    made[part] = nn.SyncBatchNorm.convert_sync_batchnorm(part)
                parent._modules[name] = made[part]


def check_synchronisable(module: nn.Module) -> None:
    """Raises UserError for batch normalisation that does more, as some of timm's does: PyTorch would drop the rest."""
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    for name, part in module.named_modules():
        if isinstance(part, plain) and type(part) not in plain:
            raise UserError(
                f"sync_batchnorm=true does not go with '{name}': a {type(part).__name__} does more than to normalise. "
                "Set it to false, or choose another model."
            )


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU if there is one, else the CPU. Raises UserError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).rstrip(".")
        raise UserError(f"device={name} cannot be used here: {reason}. Choose auto or cpu.") from error
    return device
