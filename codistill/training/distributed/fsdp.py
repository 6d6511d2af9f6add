"""Sharded parameters: each process keeps its part of every weight, gradient and momentum (FSDP2, ``fully_shard``).

A block, an element of a list or sequence of modules, is gathered when it is called and given up after it, in the
forward and in the backward pass. What lies outside of blocks (stems, classifiers, most of a teacher) is gathered
during the whole step. Nobody else knows: a cohort's code sees whole weights wherever it computes with them, and
optimizers and moving averages, which change each number by itself, change the parts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from codistill.errors import UserError, first_line
from codistill.training.distributed.ddp import Together


class Sharded(Together):
    """Several processes, each with its part of the parameters."""

    sharded = True

    def shard(self, module: nn.Module, dry_step: Callable[[], object]) -> None:
        for name, parameter in module.named_parameters():
            if parameter.ndim == 0:
                raise UserError(
                    f"sharding=parameters cannot divide the parameter '{name}', which is a single number. "
                    "Give it a dimension, or set sharding=none."
                )
            parameter.data = parameter.data.contiguous()  # no channels-last: parts are rows of plain tensors
            dist.broadcast(parameter.data, 0)  # all are built from one seed; this makes sure, as data parallelism does
        mesh = init_device_mesh(cast(torch.device, self.device).type, (self.count,))
        for block in blocks(module):
            if any(not isinstance(parameter, DTensor) for parameter in block.parameters()):
                fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(module, mesh=mesh, reshard_after_forward=False)
        try:
            dry_step()
        except RuntimeError as error:
            if "DTensor" not in str(error):
                raise
            raise UserError(
                "sharding=parameters is not possible with these models: one reads the weights of a block without "
                f"calling the block. Set sharding=none. PyTorch says: {first_line(error)}"
            ) from error
        cast(FSDPModule, module).reshard()  # without a backward pass, what lies outside of blocks is whole still

    def wrap(self, module: nn.Module) -> nn.Module:
        # Buffers are whole in each process. As in data parallelism, each step begins with those of the main one.
        module.register_forward_pre_hook(lambda module, _: self.align(module))
        return module

    @contextmanager
    def whole_weights(self, module: nn.Module) -> Iterator[None]:
        units = [unit for unit in module.modules() if isinstance(unit, FSDPModule)]
        for unit in units:
            unit.unshard()
        self._give_up_after_forward(module, False)
        try:
            yield
        finally:
            self._give_up_after_forward(module, True)
            for unit in units:
                unit.reshard()

    def whole(self, state: Any) -> Any:
        if isinstance(state, Mapping):
            return {key: self.whole(value) for key, value in state.items()}
        if not isinstance(state, DTensor):
            return state
        whole = state.full_tensor()  # all take part, one tensor after the other; only the main process keeps it
        return whole.cpu() if self.main else whole.new_empty(0)

    def part(self, whole: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor) or whole.shape != like.shape:
            return whole
        # Everybody has the whole tensor and takes what is its own: src_data_rank=None sends nothing.
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)

    def own(self, tensor: Tensor) -> Tensor:
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    @staticmethod
    def _give_up_after_forward(module: nn.Module, flag: bool) -> None:
        for unit in module.modules():
            if unit is not module and isinstance(unit, FSDPModule):
                unit.set_reshard_after_forward(flag, recurse=False)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The elements, made of modules themselves, of every list and sequence in a module; inner ones first, none twice.

    These are the stages and blocks of backbones. Single layers are not worth a message of their own.
    """
    yield from dict.fromkeys(_blocks(module))


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from _blocks(child)
        if isinstance(module, nn.ModuleList | nn.Sequential) and any(True for _ in child.children()):
            yield child
