"""What a user may write for students, tasks and a method -> the full form, checked against what there is.

    students: [resnet8, resnet8]        -> {resnet8_1: resnet8, resnet8_2: resnet8}
    tasks: [rotation, none]             -> a list of tasks for each student, with weight, fraction and all settings
    method: dml                         -> {name: dml, settings: {temperature: 1.0, ramp: 0.0}}

Settings are the keyword arguments of methods, tasks and models: names, types and defaults are read from the signature.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, create_model, field_validator

from codistill.core.student import check_student_names
from codistill.errors import UserError, unknown
from codistill.errors.nearest import nearest
from codistill.models import MODELS, TIMM, Model, is_foreign, is_from_a_table, name_and_settings, unknown_model
from codistill.tasks import TASKS

AUTO: Final = "auto"  # settled by codistill.training.auto once the length of training is known
FOR_ALL = ("pretrained", "sha256")  # settings of every model of ours besides its own


class Strict(BaseModel):
    """Keys with types, as a user writes them: no other key, no infinity, and no yes or no for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, given: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(given, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("should not be yes or no; quote it if it is a word")  # pydantic would make 1 of yes
        return given


class Section(Strict):
    """Keys of the configuration that have a name in common."""


def name_students(given: Any) -> dict[str, Model]:
    """Models by student's name. In a list they are named after themselves, and numbered where they occur again.

    One model that is in no list is for two students.
    """
    if isinstance(given, str):
        given = [given, given]
    if isinstance(given, list):
        models = [name_and_settings(_model(model))[0].removeprefix(TIMM) for model in given]
        names = [re.sub(r"[./:]", "_", model) for model in models]
        numbered = [f"{n}_{names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)]
        given = dict(zip(numbered, given, strict=True))
    if not isinstance(given, dict):
        raise UserError(f"students should be a model, a list of models or a mapping name: model, got {given!r}.")
    for name in given:
        if isinstance(name, bool) or name is None:
            raise UserError(
                f"A student's name should be a word, got {name!r}. YAML reads yes, no, on, off so: quote it."
            )
    given = {str(name): model for name, model in given.items()}
    for name, model in given.items():
        _check_order(name, model)
    check_student_names(given)
    return {name: _model(model) for name, model in given.items()}


def _check_order(student: str, model: Any) -> None:
    """Raises UserError for a student without a model, and for one whose name and model have changed places."""
    if model is None:
        raise UserError(
            f"Student '{student}' has no model. In a mapping write name: model, with a space after the colon, such as "
            "{small: resnet8, large: resnet20}."
        )
    no_model = isinstance(model, str) and model not in MODELS and not is_foreign(model)
    if no_model and (student in MODELS or student.startswith(TIMM)):
        raise UserError(
            f"Unknown model '{model}', for a student that is named '{student}'. The student's name comes first: "
            f"{{{model}: {student}}}."
        )


def _model(given: Any) -> Model:
    """A model as given -> its name, or name and all settings. Those of a foreign model are its own to check."""
    if not isinstance(given, dict):
        given = {"name": str(given)}
    if not isinstance(given.get("name"), str):
        raise UserError(f"A student's model should be a name, or a mapping with 'name', got {given!r}.")
    if not is_foreign(given["name"]):
        if given["name"] not in MODELS:
            raise unknown_model(given["name"])
        common = {key: given[key] for key in FOR_ALL if key in given and given[key] is not False}
        full = named({key: value for key, value in given.items() if key not in FOR_ALL}, "model", MODELS, FOR_ALL)
        given = {"name": full["name"], **full["settings"], **common}
        if "pretrained" in common:
            _check_student_file(common["pretrained"], full["name"])
    else:
        _check_storable(given)
    if "sha256" in given and is_from_a_table(given["name"]):
        given = _with_checked_digest(given)
    return given if len(given) > 1 else given["name"]


def _check_student_file(given: Any, model: str) -> None:
    if not isinstance(given, str) or not given:
        raise UserError(
            f"Model '{model}' has no pretrained weights of its own: pretrained should be the file of a student of an "
            f"earlier run, RUN/students/NAME.safetensors, got {given!r}. Models of timm have, pretrained: true."
        )


def _with_checked_digest(model: dict[str, Any]) -> dict[str, Any]:
    """Without the digest where it says nothing, or where no file is named (any more)."""
    digest, others = model["sha256"], {key: value for key, value in model.items() if key != "sha256"}
    if digest in (None, False) or not isinstance(model.get("pretrained"), str):
        return others
    if re.fullmatch(r"[0-9a-fA-F]{64}", str(digest)) is None:
        raise UserError(f"sha256 of model '{model['name']}' should be 64 hexadecimal digits, got {digest!r}.")
    return {**others, "sha256": str(digest).lower()}


def _check_storable(model: dict[str, Any]) -> None:
    """config.yaml and the student's file must be able to hold what nobody here knows the types of."""
    try:
        stored = json.dumps(model, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        stored = ""
    if not stored.isprintable() or json.loads(stored or "null") != model:
        raise UserError(f"Settings of model '{model['name'][:50]}' should be words, numbers, lists and mappings.")


def tasks_of_each(given: Any, students: list[str]) -> list[list[dict[str, Any]]] | str:
    """One entry per student: a task, a list of tasks, or none. One entry alone is for all; ``auto`` stays as it is."""
    if given == AUTO:
        return AUTO
    if given is None or given == [] or given == "none":
        return [[] for _ in students]
    if not isinstance(given, list):
        given = [given]
    if len(given) == 1:
        given = given * len(students)
    if len(given) != len(students):
        raise UserError(
            f"{len(given)} tasks for {len(students)} students ({', '.join(students)}): "
            f"give one for each student in order, one for all, or tasks=none or auto."
        )
    entries = [entry if isinstance(entry, list) else [entry] for entry in given]
    tasks = [[_task(task) for task in entry if task not in (None, "none")] for entry in entries]
    for student, own in zip(students, tasks, strict=True):
        names = [task["name"] for task in own]
        if len(set(names)) < len(names):
            raise UserError(f"Student '{student}' has the same task twice: {', '.join(names)}.")
    return tasks


def _task(given: Any) -> dict[str, Any]:
    """A task as given -> name, settings, and what every task has: a weight and a fraction."""
    common: dict[str, Any] = {"weight": None, "fraction": None}
    if isinstance(given, dict):
        common = {key: given.get(key) for key in common}
        given = {key: value for key, value in given.items() if key not in common}
    full = named(given, "task", TASKS)
    task = TASKS[full["name"]]
    defaults = {"weight": task.default_weight, "fraction": task.fraction}
    return {**full, **{key: defaults[key] if value is None else value for key, value in common.items()}}


def named(
    given: Any,
    kind: str,
    choices: Mapping[str, Callable[..., Any]],
    besides: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
) -> dict[str, Any]:
    """A name, or a mapping with a name and settings -> name and complete settings, checked against the signature.

    besides: settings that there are too, which the caller has taken out. elsewhere: keys that a setting may be meant
    as which there is not.
    """
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise UserError(f"A {kind} should be one of {', '.join(choices)}, or a mapping with 'name', got {given!r}.")
    name = given["name"]
    if name not in choices:
        raise unknown(kind, name, choices)
    settings = {key: value for key, value in given.items() if key != "name"}
    return {"name": name, "settings": check_settings(choices[name], settings, f"{kind} '{name}'", besides, elsewhere)}


def settings_of(factory: Callable[..., Any]) -> list[str]:
    """The names of a factory's settings: of its keyword-only parameters."""
    return [p.name for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]


def check_settings(
    factory: Callable[..., Any],
    settings: Mapping[str, Any],
    place: str,
    besides: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
) -> dict[str, Any]:
    """Settings for the keyword-only parameters of ``factory``, with types checked and defaults filled in."""
    parameters = inspect.signature(factory).parameters.values()
    made_by = factory.func if isinstance(factory, partial) else factory
    hints = get_type_hints(made_by.__init__ if inspect.isclass(made_by) else made_by, include_extras=True)
    fields: dict[str, Any] = {
        p.name: (hints.get(p.name, Any), ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    }
    for key in settings:
        if key not in fields:
            there = [*fields, *besides]
            raise unknown(f"setting of {place}", str(key), there, nearest(str(key), [*there, *elsewhere]))
    try:
        model: type[BaseModel] = create_model("Settings", __base__=Strict, **fields)
        return model.model_validate(dict(settings)).model_dump()
    except ValidationError as error:
        raise UserError(f"In {place}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """pydantic's findings in one sentence each: where, what it should be, and what was given."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        lines.append(f"{where} {what} (got {problem['input']!r}).")
    return " ".join(lines)
