"""Several processes that train one cohort together. A launcher (torchrun) starts them, Accelerate joins them.

Each sees its share of every batch, and their gradients are averaged. Process 0 is the main one: it alone writes. The
engine asks a ``Processes`` and never how many there are; one process alone has nothing to agree on.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from codistill.engine.launched import launched
from codistill.errors import TrainingEnded, UserError

Result = TypeVar("Result")


class ProcessLost(TrainingEnded):
    """Another process of the job ended in the middle of training."""

    advice = "All up to the last checkpoint is saved: start the job again with --resume."
    told_by_all = True


class Processes:
    """One process, alone. As a context it tells of processes that were lost."""

    rank = 0
    count = 1
    device: torch.device | None = None  # where the launcher wants this process; None: wherever the user says
    restarted = False  # whether the launcher began again, after a process was lost
    sharded = False  # whether each has only its part of the parameters

    @property
    def main(self) -> bool:
        return self.rank == 0

    def shard(self, module: nn.Module, dry_step: Callable[[], object]) -> None:
        """Divide the parameters, in place, before an optimizer has them; then see whether a ``dry_step`` works."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """What is called in each step, so that gradients are averaged over processes."""
        return module

    @contextmanager
    def whole_weights(self, module: nn.Module) -> Iterator[None]:
        """In here all weights are whole: for forward passes that not every process makes."""
        yield

    def whole(self, state: Any) -> Any:
        """A state with tensors that are whole, in the main process; all must ask."""
        return state

    def part(self, whole: Tensor, like: Tensor) -> Tensor:
        """Of a whole tensor what this process has of one ``like`` it."""
        return whole

    def own(self, tensor: Tensor) -> Tensor:
        """What this process has of a parameter, as a plain tensor."""
        return tensor

    def align(self, module: nn.Module) -> None:
        """Give every process the buffers (running statistics) of the main one."""

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over processes."""
        return tensor

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes."""
        return tensor

    def largest(self, *numbers: int) -> list[int]:
        """Each number's maximum over processes: how they agree to save or to stop."""
        return list(numbers)

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks."""
        return [value]

    def together(self, call: Callable[[], Result]) -> Result:
        """What this process's call returns. Raises UserError in all processes if it does in one."""
        return call()

    def on_main(self, call: Callable[[], Result]) -> Result:
        """What the main process's call returns, in all of them. Raises UserError in all processes if it does."""
        return call()

    def wait(self) -> None:
        """Until every process is here."""

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


ALONE = Processes()


class Together(Processes):
    """Several processes, each with its device."""

    def __init__(self, device: str) -> None:
        try:
            from accelerate import Accelerator, DistributedDataParallelKwargs
        except ImportError as error:
            raise UserError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} asks for several processes, which need Accelerate: "
                "pip install codistill[distributed]"
            ) from error
        _check_device(device)
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":  # on a CPU, Accelerate would ignore it
            raise UserError(
                "The launcher asks for FSDP. Set sharding=parameters instead, and start it without --use_fsdp."
            )
        on_cpu = device == "cpu" or not torch.cuda.is_available()
        if not dist.is_initialized():
            _meet("gloo" if on_cpu else "nccl")
        self._accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="no",  # precision is the runtime's
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
        )
        kind = self._accelerator.distributed_type.value
        if kind not in ("MULTI_GPU", "MULTI_CPU"):
            raise UserError(f"The launcher asks for {kind}. Several processes train by data parallelism only.")
        self.rank, self.count = self._accelerator.process_index, self._accelerator.num_processes
        self.device = self._accelerator.device
        self.restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0

    def wrap(self, module: nn.Module) -> nn.Module:
        return cast(nn.Module, self._accelerator.prepare_model(module))

    def align(self, module: nn.Module) -> None:
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for buffer in module.buffers():
            kinds.setdefault(buffer.dtype, []).append(buffer)
        for buffers in kinds.values():  # one message each: there are three buffers to every batch normalisation
            joined = torch.cat([buffer.flatten() for buffer in buffers])
            dist.broadcast(joined, 0)
            for buffer, same in zip(buffers, joined.split([buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(same.view_as(buffer))

    def mean(self, tensor: Tensor) -> Tensor:
        return self.sum(tensor) / self.count

    def sum(self, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    def largest(self, *numbers: int) -> list[int]:
        found = torch.tensor(numbers, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.tolist()

    def gather(self, value: Any) -> list[Any]:
        values = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def together(self, call: Callable[[], Result]) -> Result:
        trouble, result = None, None
        try:
            result = call()
        except UserError as error:
            trouble = error
        said = self.gather(None if trouble is None else str(trouble))
        if any(said):  # the first one's; most often all say the same
            raise UserError(next(filter(None, said))) from trouble
        return cast(Result, result)

    def on_main(self, call: Callable[[], Result]) -> Result:
        found = [self.together(call if self.main else lambda: cast(Result, None))]
        dist.broadcast_object_list(found, 0)
        return found[0]

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait()  # nobody leaves while another still talks to it
        elif isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            raise ProcessLost(
                f"Process {self.rank} of {self.count} no longer reaches the others: one of them ended, or its network."
            ) from error


def join(device: str, sharding: str = "none") -> Processes:
    """The processes that a launcher started with this one; ``device`` and ``sharding`` are the configuration's.

    Raises UserError where they cannot train together.
    """
    if not launched():
        return ALONE
    if sharding == "parameters":
        from codistill.engine.sharded import Sharded  # which builds on this file

        return Sharded(device)
    return Together(device)


def _meet(backend: str) -> None:
    """Form the group, which Accelerate then uses. Its keys are those of this attempt alone: after a restart the
    launcher's store still holds the addresses of processes that are gone."""
    store, rank, count = next(iter(dist.rendezvous("env://")))
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={device} is one device, but there are several processes. Choose auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda cannot be used here: there is no GPU. Choose auto or cpu.")
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if device != "cpu" and torch.cuda.is_available() and here > gpus:
        raise UserError(f"{here} processes on this machine need as many GPUs; it has {gpus}. Start fewer.")
