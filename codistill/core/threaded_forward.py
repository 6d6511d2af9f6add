"""Students side by side on a CPU: a thread for each, on its share of the cores, forward and backward.

All cores on one layer of a small network wait for each other at every layer; students need not wait for each other
before their losses. So each student runs in a thread of its own. The graph is cut at its outputs: what lies before
them is differentiated by a thread of that student too, once the gradients of the outputs are known. The numbers are
those of one student after the other on as few cores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from codistill.core.forward import Pieces, Seen, look_alone
from codistill.core.student import Student, StudentOutput


class SideBySide:
    """Looks as ``codistill.core.forward.one_by_one`` does, on ``threads`` threads in all.

    The students must share no parameters and draw no random numbers (``draws_random_numbers``). Their parameters'
    gradients are accumulated by ``backward()``; ``torch.autograd.grad`` does not see them.
    """

    def __init__(self, students: int, threads: int) -> None:
        self._workers = max(1, min(students, threads))
        self.threads_each = max(1, threads // self._workers)
        self._pool = self._new_pool()

    def __call__(self, students: Mapping[str, Student], pieces: Pieces, view_statistics: str) -> Seen:
        looks = [partial(look_alone, student, pieces[name], view_statistics) for name, student in students.items()]
        seen = self._run([_in_this_mode(look) for look in looks])
        if torch.is_grad_enabled():
            graphs = [_tensors_of(views) for views in seen]
            joined = iter(_Cut.apply(torch.zeros((), requires_grad=True), self._run, graphs))
            seen = [_replaced(views, joined) for views in seen]
        return dict(zip(students, seen, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Without the pool, which can be neither copied nor saved: a copy has threads of its own."""
        return {name: value for name, value in vars(self).items() if name != "_pool"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(
            self._workers, "student", initializer=torch.set_num_threads, initargs=(self.threads_each,)
        )

    def _run(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """What the calls return, each made in a thread of the pool."""
        return [future.result() for future in [self._pool.submit(call) for call in calls]]


class _Cut(torch.autograd.Function):
    """Identity on the outputs of several graphs; backward hands each graph its gradients, side by side."""

    @staticmethod
    def forward(ctx: Any, differentiable: Tensor, run: Callable[..., Any], graphs: list[list[Tensor]]) -> Any:
        # Autograd calls backward only if an input is differentiable; the graphs' own inputs, it must not see.
        ctx.run, ctx.graphs = run, graphs
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach() for graph in graphs for tensor in graph)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, None, None]:
        graphs, ctx.graphs = ctx.graphs, []  # let go of the maps before the next step makes new ones
        left = iter(gradients)
        calls = []
        for graph in graphs:
            pairs = list(zip(graph, left, strict=False))
            own = [(tensor, gradient) for tensor, gradient in pairs if gradient is not None and tensor.requires_grad]
            if own:  # what lies before a frozen layer's output has no graph
                tensors, arriving = zip(*own, strict=True)
                calls.append(partial(torch.autograd.backward, tensors, arriving))
        ctx.run(calls)
        return None, None, None


def draws_random_numbers(student: Student, image_shape: tuple[int, int, int]) -> bool:
    """Whether a training pass over images of (C, H, W) draws any, as dropout does. Leaves no trace."""
    before = torch.get_rng_state()
    parameter = next(student.parameters())
    with torch.no_grad():
        deepcopy(student).train()(torch.zeros(2, *image_shape, device=parameter.device, dtype=parameter.dtype))
    drawn = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    return drawn


def _in_this_mode(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call, with the gradient, inference and autocast modes that hold here: they belong to a thread."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def wrapped() -> Any:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", dtype, enabled=autocast),
        ):
            return call()

    return wrapped


def _tensors_of(views: Mapping[str, StudentOutput]) -> list[Tensor]:
    return [tensor for output in views.values() for tensor in (output.logits, output.embedding, *output.feature_maps)]


def _replaced(views: Mapping[str, StudentOutput], tensors: Iterator[Tensor]) -> dict[str, StudentOutput]:
    """``views`` with other tensors, taken in the order of ``_tensors_of``."""
    return {
        view: StudentOutput(next(tensors), next(tensors), tuple(next(tensors) for _ in output.feature_maps))
        for view, output in views.items()
    }
