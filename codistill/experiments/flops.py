"""One dry training step on a few images, to count what each part computes and what autograd keeps.

FLOPs are those of matrix products, convolutions and attention, as ``torch.utils.flop_counter`` counts them: a
multiply-add is two. Only forward passes are counted; a backward pass costs about twice as many.
"""

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.core.forward import one_by_one
from codistill.core.student import Student
from codistill.training.runtime import Runtime

FEWEST, MOST = 8, 40  # images: costs grow with them, but for losses that compare images, which cost little


class Counts(NamedTuple):
    """Per image of the batch, whatever views are made of it."""

    flops: int  # of all forward passes
    flops_of: dict[str, int]  # of each task (``tasks.STUDENT.TASK``) and teacher (``teachers.LESSON``) that computes
    kept_bytes: int  # for the backward pass, without weights


def dry_step(cohort: Cohort, image_shape: tuple[int, int, int], num_classes: int, runtime: Runtime) -> Counts:
    """Count a step of a cohort that lies on the CPU, for images of (C, H, W). It is left as it was."""
    count = _images_for(cohort.fractions)
    images = torch.randn(count, *image_shape, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(count)
    labels = numbers // 2 % num_classes  # pairs, for losses that compare images of one class
    batch = Batch(images, labels, (images,) * (cohort.augmentations - 1), numbers)

    owned = {tensor.untyped_storage().data_ptr() for tensor in cohort.state_dict().values()}
    kept: dict[int, int] = {}  # address -> bytes

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    before = [(buffer, buffer.clone()) for buffer in cohort.buffers()]
    was_training, look = cohort.training, cohort.look
    cohort.look = one_by_one  # what other threads compute would not be counted
    with (
        torch.random.fork_rng(devices=[]),
        runtime.autocast(),
        saved_tensors_hooks(keep, _as_it_is),
        _counting() as found,
    ):
        losses = cohort.train()(batch)  # noqa: F841 (holds what is kept, so that no address is used twice)
    cohort.train(was_training)
    cohort.look = look
    for buffer, value in before:
        buffer.copy_(value)

    by_name = {name: sum(kinds.values()) // count for name, kinds in found.get_flop_counts().items()}
    parts = {name.removeprefix(f"{type(cohort).__name__}."): flops for name, flops in by_name.items()}
    return Counts(parts.pop("Global"), parts, sum(kept.values()) // count)


def flops_of_pass(student: Student, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of one student's forward pass over one image of (C, H, W). Leaves no trace in it."""
    was_training = student.training
    with _counting() as found:  # with gradients: without them some layers go ways that are not counted
        student.eval()(torch.zeros(1, *image_shape))
    student.train(was_training)
    return found.get_total_flops()


def _images_for(fractions: Iterable[float]) -> int:
    """The fewest pairs of which each fraction is a whole number, two or more; ``MOST`` if there is no such number."""
    fractions = list(fractions)
    for count in range(FEWEST, MOST, 2):
        if all(share * count >= 2 and (share * count) % 1 == 0 for share in fractions):
            return count
    return MOST


def _counting() -> FlopCounterMode:
    """Counts attention on a CPU too, which PyTorch's own table leaves out."""
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={on_cpu: _attention_flops})


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *args: Any, **others: Any) -> int:
    """Of shapes (B, heads, positions, width): two products for each pair of positions."""
    return 2 * prod(query[:3]) * key[2] * (query[3] + value[3])


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
