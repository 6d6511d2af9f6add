"""Several processes, each with all parameters, which a launcher (torchrun) started and Accelerate joins."""

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.errors.libraries import importing
from codistill.training.distributed.process_group import Processes, ProcessLost, Result


class Together(Processes):
    """Several processes, each with its device."""

    def __init__(self, device: str) -> None:
        with importing("accelerate", f"WORLD_SIZE={os.environ['WORLD_SIZE']} asks for several processes, which"):
            from accelerate import Accelerator, DistributedDataParallelKwargs
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._accelerator.wait_for_everyone()  # nobody leaves while another still talks to it
        elif isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            raise ProcessLost(
                f"Process {self.rank} of {self.count} no longer reaches the others: one of them ended, or its network."
            ) from error


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
