"""What there is to choose from, described from its own docstrings, signatures and sizes: methods, tasks, models."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from codistill.core.cohort import Cohort
from codistill.core.student import Student, observe_shapes
from codistill.errors import UserError, unknown
from codistill.methods import METHODS
from codistill.models import MODELS, make_backbone
from codistill.tasks import TASKS

CLASSES, SIZE, MODEL = 100, 32, "resnet32"  # costs are stated for CIFAR-100 and a ResNet-32 pair


class Setting(NamedTuple):
    """A keyword argument of a method or a task."""

    name: str
    kind: str
    default: str


class Entry(NamedTuple):
    """One method or task."""

    name: str
    summary: str  # one line, with the paper
    text: str  # formula, sources and deviations
    usage: str  # the settings in words
    settings: list[Setting]
    passes: float  # forward passes through one student in a step; plain training has 1
    extra_parameters: int  # there for training only


def describe_method(name: str) -> Entry:
    """A method of METHODS by name. Raises UserError for an unknown one."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    make = METHODS[name]
    summary, usage = _split_docstring(make)
    passes, extra = _cost(make, {})
    return Entry(name, summary, _with_parts(_module_text(make)), usage, _settings(make), passes, extra)


def describe_task(name: str) -> Entry:
    """A task of TASKS by name. Raises UserError for an unknown one."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    task = TASKS[name]
    usage = inspect.getdoc(task) or ""
    text = _task_text(task)
    passes, extra = _cost(METHODS["independent"], {"a": name})
    common = {"weight": task.default_weight, "fraction": task.fraction}
    settings = [Setting(key, "float", str(value)) for key, value in common.items()]
    return Entry(name, _first_line(text), text, usage, settings + _settings(task), passes, extra)


def summaries() -> tuple[dict[str, str], dict[str, str]]:
    """One line for each method and for each task, by name; quick."""
    methods = {name: _split_docstring(make)[0] for name, make in METHODS.items()}
    return methods, {name: _first_line(_task_text(task)) for name, task in TASKS.items()}


def model_summaries() -> dict[str, dict[str, int]]:
    """Models by what they are, in one line: name -> parameters as a student of 100 classes; quick, nothing is drawn."""
    groups: dict[str, dict[str, int]] = {}
    with torch.device("meta"), _NothingDrawn():
        for name, make in MODELS.items():
            student = Student(make_backbone(name), CLASSES)
            made_by = make.func if isinstance(make, partial) else make
            group = groups.setdefault(_first_line(_module_text(made_by)), {})
            group[name] = sum(parameter.numel() for parameter in student.parameters())
    return groups


class _NothingDrawn(TorchFunctionMode):
    """Inside, initialisation draws nothing: on no device it would be in vain, and import PyTorch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _cost(make: Callable[..., Any], tasks: Mapping[str, str]) -> tuple[float, int]:
    """Forward passes of the first student, and the training-only parameters of two ResNet-32, or three if need be."""
    try:
        return _cost_of("ab", make, tasks)
    except UserError:
        return _cost_of("abc", make, tasks)


def _cost_of(names: str, make: Callable[..., Any], tasks: Mapping[str, str]) -> tuple[float, int]:
    students = {name: Student(make_backbone(MODEL), CLASSES) for name in names}
    shapes = {name: observe_shapes(student, (3, SIZE, SIZE)) for name, student in students.items()}
    built = {name: {key: TASKS[key](shapes[name], **_needed(key))} for name, key in tasks.items()}
    cohort = Cohort(students, built, make(shapes))
    return sum(cohort.views_of["a"].values()), cohort.parameter_counts()[1]


def _needed(task: str) -> dict[str, Any]:
    """Settings that a task takes from the data, here CIFAR-100's twenty superclasses of five."""
    parameters = inspect.signature(TASKS[task]).parameters
    return {"superclasses": [label // 5 for label in range(CLASSES)]} if "superclasses" in parameters else {}


def _module_text(thing: Callable[..., Any]) -> str:
    return inspect.getdoc(inspect.getmodule(thing)) or ""


def _task_text(task: Callable[..., Any]) -> str:
    """A task of codistill has a module of its own, which tells of it; one of a user may stand anywhere."""
    made_by = task.func if isinstance(task, partial) else task
    ours = made_by.__module__.startswith("codistill.")
    return _module_text(made_by) if ours else inspect.cleandoc(made_by.__doc__ or "")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _with_parts(text: str) -> str:
    """A method's text, and below it those of the modules that it is made of, which it names."""
    parts = [import_module(name) for name in re.findall(r"``(codistill\.methods\.\w+)``", text)]
    return "\n\n".join([text, *(f"{part.__name__}\n\n{inspect.getdoc(part)}" for part in parts)])


def _split_docstring(thing: Callable[..., Any]) -> tuple[str, str]:
    first, _, rest = (inspect.getdoc(thing) or "").partition("\n")
    return first, rest.strip()


def _settings(thing: Callable[..., Any]) -> list[Setting]:
    parameters = inspect.signature(thing).parameters.values()
    return [
        Setting(p.name, _describe_type(inspect.formatannotation(p.annotation)), str(p.default))
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    ]


def _describe_type(annotation: str) -> str:
    """``Annotated[float, Ge(ge=0), Lt(lt=1)] | None`` -> ``float >= 0, < 1 or None``."""
    annotation = re.sub(r"Optional\[(.*)\]", r"\1 | None", annotation.replace("typing.", ""))  # Python up to 3.13
    plain = re.sub(r"Annotated\[(\w+), (?:FieldInfo\([^\[]*\[)?([^\]]*)(?:\]\))?\]", _describe_bounds, annotation)
    return plain.replace(" | ", " or ")


def _describe_bounds(match: re.Match[str]) -> str:
    signs = {"Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}
    return f"{match[1]} " + ", ".join(f"{signs[kind]} {of}" for kind, of in re.findall(r"(\w+)\(\w+=(\d+)\)", match[2]))
