"""Small cohorts and batches for tests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import references
import torch
from backbones import PlainCNN, TinyViT

from codistill import Batch, Cohort, Method, Objective, Student, observe_shapes
from codistill.methods import METHODS
from codistill.models import MODELS
from codistill.tasks import TASKS
from codistill.training.display import Silent as Silent

CLASSES = 5
SIZE = 16

# What a task cannot do without, or does more with.
TASK_SETTINGS: dict[str, dict[str, object]] = {
    "coarse": {"superclasses": [0, 0, 1, 1, 1]},
    "reconstruction": {"masked": 0.5},
}

BACKBONES = {**MODELS, "cnn": PlainCNN, "vit": lambda: TinyViT(SIZE)}


# What methods need to be told before they take students of different architectures.
MIXED_SETTINGS: dict[str, dict[str, object]] = {
    "one": {"shared_trunk": False},
    "clilr": {"shared_trunk": False},
    "okddip": {"shared_trunk": False},
}


def make_cohort(
    models: dict[str, str],
    tasks: Sequence[str | None] = (),
    method: str | Callable[..., Method] = "independent",
    seed: int = 0,
    view_statistics: str = "together",
    fractions: Mapping[str, float] = {},
    **settings: object,
) -> tuple[Cohort, Objective]:
    """A cohort of models by student name, with one task or none for each, and its objective.

    ``fractions``: of the batch that a student's task runs on, where not all of it, whatever the task's default.
    """
    torch.manual_seed(seed)
    students = {name: Student(BACKBONES[model](), CLASSES) for name, model in models.items()}
    shapes = {name: observe_shapes(student, (3, SIZE, SIZE)) for name, student in students.items()}
    own = {
        name: {task: TASKS[task](shapes[name], **TASK_SETTINGS.get(task, {}))} if task else {}
        for name, task in zip(students, tasks or [None] * len(students), strict=True)
    }
    for name, tasks_of_student in own.items():
        for task in tasks_of_student.values():
            task.fraction = fractions.get(name, 1.0)
    built = (METHODS[method] if isinstance(method, str) else method)(shapes, **settings)
    weights = {f"{name}/{key}": task.default_weight for name, tasks_ in own.items() for key, task in tasks_.items()}
    return Cohort(students, own, built, view_statistics), Objective({**built.weights, **weights})


def make_batch(size: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images, *extra = torch.randn(4, size, 3, SIZE, SIZE, generator=generator)
    labels = torch.randint(0, CLASSES, (size,), generator=generator)
    draws = torch.randint(0, 2**31 - 1, (size,), generator=generator)
    return Batch(images, labels, tuple(extra), draws)


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of each parameter's gradient; zeros where there is none."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def step_by_hand(
    cohort: Cohort, objective: Objective, optimizer: torch.optim.Optimizer, batch: Batch, clip_norm: float | None
) -> None:
    """A training step without the engine, half-way through training."""
    optimizer.zero_grad()
    objective(cohort(batch), 0.5).backward()
    if clip_norm is not None:
        named = {name: p for name, p in cohort.named_parameters() if p.grad is not None}
        for name, gradient in references.clipped(gradients(cohort), clip_norm).items():
            if name in named:
                named[name].grad = gradient
    optimizer.step()
    cohort.after_step()


def without_gradient(cohort: Cohort) -> list[str]:
    """The trainable parameters that the last backward pass did not reach."""
    return [name for name, parameter in cohort.named_parameters() if parameter.requires_grad and parameter.grad is None]


def assert_every_parameter_learns(cohort: Cohort, objective: Objective) -> None:
    """One step: every loss is a finite number with a weight, and its gradients reach every parameter."""
    losses = cohort(make_batch())
    objective.table(losses)
    objective(losses).backward()
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    assert without_gradient(cohort) == []


def assert_each_loss_trains(cohort: Cohort, expected: Mapping[str, set[str]]) -> None:
    """The losses are these, and the gradient of each reaches these modules and no others."""
    losses = cohort(make_batch())
    assert set(losses) == set(expected)
    modules = set().union(*expected.values())
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {
            next((module for module in modules if key.startswith(f"{module}.")), key)
            for key, parameter in cohort.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }
        assert reached == expected[name], name


def assert_one_class_of_identical_students_is_finite(cohort: Cohort, objective: Objective) -> None:
    """Also for a single image."""
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    for size in (1, 4):
        batch = make_batch(size)._replace(labels=torch.zeros(size, dtype=torch.int64))
        assert objective(cohort(batch)).isfinite()


def assert_compiled_losses_are_the_same(cohort: Cohort) -> None:
    """One step of the compiled cohort, as one graph, against one eager step from the same state."""
    for student in cohort.students.values():
        if any(isinstance(module, torch.nn.Dropout) for module in student.modules()):
            student.eval()  # dropout would differ between the two passes
    batch = make_batch()
    state = {key: value.clone() for key, value in cohort.state_dict().items()}
    compiled = torch.compile(cohort, fullgraph=True, backend="aot_eager")(batch)
    cohort.load_state_dict(state)  # batch normalisation and running means have seen the batch
    torch.testing.assert_close(compiled, cohort(batch), atol=1e-5, rtol=1e-5)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, PyTorch works with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
