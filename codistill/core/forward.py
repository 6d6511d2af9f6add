"""How students see their views: each by itself, or through the trunk that they share.

Either way a student sees all its views in one forward pass, and the outputs are split by view afterwards.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from codistill.core.student import Student, StudentOutput
from codistill.core.views import CLEAN, SECOND

Pieces = Mapping[str, Mapping[str, Tensor]]  # student -> view -> images (rows, C, H, W), the clean view first
Seen = dict[str, dict[str, StudentOutput]]  # student -> view -> output over as many rows
Look = Callable[[Mapping[str, Student], Pieces, str], Seen]  # students, what each sees, and view_statistics


def one_by_one(students: Mapping[str, Student], pieces: Pieces, view_statistics: str) -> Seen:
    """Each student by itself, one after the other."""
    return {name: look_alone(student, pieces[name], view_statistics) for name, student in students.items()}


def look_alone(student: Student, views: Mapping[str, Tensor], view_statistics: str) -> dict[str, StudentOutput]:
    """One forward pass; two where only clean images count as batch-normalisation statistics."""
    if len(views) == 1:
        return {CLEAN: student(views[CLEAN])}
    if view_statistics == "together":
        return split_views(views, student(torch.cat(list(views.values()))))
    # The other views run against copies of the running statistics, which are then forgotten.
    clean = student(views[CLEAN])
    others = {view: images for view, images in views.items() if view != CLEAN}
    forgotten = {key: buffer.clone() for key, buffer in student.named_buffers()}
    joined = functional_call(student, forgotten, (torch.cat(list(others.values())),))
    return {CLEAN: clean, **split_views(others, joined)}


def look_through_trunk(
    students: Mapping[str, Student], pieces: Pieces, trunk_gradient: float, own_augmentations: bool
) -> Seen:
    """One pass through the shared trunk over every view that any student sees, then one through each branch.

    The gradient that the branches send into the trunk is multiplied by ``trunk_gradient``. ``own_augmentations``: one
    student's view is not that of another, but for the second, which shows all of them the same.
    """

    def key(name: str, view: str) -> tuple[str, str]:
        return (name if own_augmentations and view != SECOND else "", view)

    longest: dict[tuple[str, str], Tensor] = {}  # a student that sees fewer rows of a view sees the first ones
    for name, views in pieces.items():
        for view, images in views.items():
            if key(name, view) not in longest or len(images) > len(longest[key(name, view)]):
                longest[key(name, view)] = images
    first = next(iter(students.values()))
    joined = first.forward_trunk(torch.cat(list(longest.values())))
    trunk = [dict(zip(longest, m.split([len(i) for i in longest.values()]), strict=True)) for m in joined]
    seen: Seen = {}
    for name, student in students.items():
        views = pieces[name]
        own = [torch.cat([by_view[key(name, view)][: len(views[view])] for view in views]) for by_view in trunk]
        own[-1] = scale_gradient(own[-1], trunk_gradient)
        seen[name] = split_views(views, student.forward_branch(own))
    return seen


def scale_gradient(x: Tensor, factor: float | Tensor) -> Tensor:
    """``x`` itself, of any shape; its gradient times ``factor``, a scalar."""
    return x if isinstance(factor, float) and factor == 1.0 else x.detach() + factor * (x - x.detach())


def split_views(views: Mapping[str, Tensor], joined: StudentOutput) -> dict[str, StudentOutput]:
    """One output over all rows of all views -> one output per view."""
    sizes = [len(images) for images in views.values()]
    maps = zip(*(feature_map.split(sizes) for feature_map in joined.feature_maps), strict=True)
    parts = zip(views, joined.logits.split(sizes), joined.embedding.split(sizes), maps, strict=True)
    return {view: StudentOutput(logits, embedding, own_maps) for view, logits, embedding, own_maps in parts}


def join_views(outputs: Sequence[StudentOutput]) -> StudentOutput:
    """Outputs of several views, of B rows each -> one of V * B rows, view-major."""
    logits, embeddings, maps = zip(*outputs, strict=True)
    return StudentOutput(torch.cat(logits), torch.cat(embeddings), tuple(map(torch.cat, zip(*maps, strict=True))))


def first_rows(output: StudentOutput, rows: int) -> StudentOutput:
    """The output over the first ``rows`` images."""
    return StudentOutput(output.logits[:rows], output.embedding[:rows], tuple(m[:rows] for m in output.feature_maps))
