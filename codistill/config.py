"""The configuration of a run: one model, complete, in which a wrong key cannot hide.

A run is configured by an optional YAML recipe and ``key=value`` overrides with dots for nesting. What is written to
the run folder has every default filled in, so that it reproduces the run by itself.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)

from codistill.errors import UserError, unknown
from codistill.methods import METHODS
from codistill.models import MODELS
from codistill.objective import Ramp, Weight
from codistill.student import check_student_names
from codistill.tasks import TASKS

STUDENTS = ["resnet8", "resnet8"]
TASKS_OF_EACH = ["rotation", "supcon"]
METHOD = "collaborative"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Strict):
    """Which images."""

    name: str = Field("digits", description="digits, a folder (Parquet, or images in class folders), or a hub name")
    label: str | None = Field(None, description="label column, where the data has several")
    superclass: str | None = Field(None, description="label column of superclasses, for the task 'coarse'")
    image_size: int | None = Field(None, ge=4, description="resize to this many pixels squared")
    classes: int | None = Field(None, ge=2, description="use this many classes, chosen by data.seed")
    per_class: int | None = Field(None, ge=1, description="train on this many images of each class")
    validation: float = Field(0.1, ge=0, lt=1, description="share of train held out, stratified; 0 for none")
    seed: int = Field(0, ge=0, lt=2**32, description="of every choice above; independent of the run's seed")


class AugmentConfig(_Strict):
    """Crop and flip. None is filled in from the data."""

    padding: int | None = Field(None, ge=0, description="reflected pixels around the crop; default: size / 8")
    flip: bool | None = Field(None, description="mirror half of the images; default: what the data stands")


class OptimizerConfig(_Strict):
    """SGD and its schedule."""

    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0)
    schedule: Literal["cosine", "step"] = Field("cosine", description="step: x 0.1 at 1/2 and at 3/4 of training")
    warmup_epochs: float = Field(1.0, ge=0, description="linear, from 0")
    clip_norm: float | None = Field(None, gt=0, description="of the gradient of each student, task and teacher")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "OptimizerConfig":
        if self.nesterov and self.momentum == 0:
            raise UserError("optimizer.momentum=0 does not go with Nesterov: set optimizer.nesterov=false too.")
        return self


class Named(BaseModel):
    """Something chosen by name, with its settings: ``dml`` or ``{name: dml, temperature: 3}``."""

    name: str
    settings: dict[str, Any] = {}

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.settings}


class TaskConfig(Named):
    """A task, its settings, its weight in the objective, and on which fraction of each batch it runs."""

    weight: float = Field(ge=0)
    fraction: float = Field(1.0, gt=0, le=1)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, "weight": self.weight, "fraction": self.fraction, **self.settings}


class RunConfig(_Strict):
    """Everything that a run depends on."""

    # The defaults of these three are shorthands; _spell_out completes them like the user's own.
    students: dict[str, str] = Field(
        description="models, as a list or as a mapping from a name of your choice",
        json_schema_extra={"short": str(STUDENTS)},
    )
    tasks: list[list[TaskConfig]] = Field(
        description="one for each student, in order; one for all; or none",
        json_schema_extra={"short": str(TASKS_OF_EACH)},
    )
    method: Named = Field(description="how students learn from each other", json_schema_extra={"short": METHOD})
    weights: dict[str, NonNegativeFloat | Ramp] = Field(
        {}, description="loss name or pattern -> number, or {weight: 1, over: 0.3} to ramp up; the last match wins"
    )
    view_statistics: Literal["together", "clean_only"] = Field(
        "together", description="which views count in batch normalisation"
    )
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: int = Field(128, ge=2)
    epochs: int = Field(30, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N")
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = Field(False, description="torch.compile the cohort")
    log_every: int = Field(50, ge=1, description="steps between two lines of metrics.jsonl")
    order: Literal["shuffled", "class_pairs"] = Field(
        "shuffled", description="of the images; class_pairs shows two of a class in a row, for contrastive losses"
    )

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Shorthands -> the full form: lists of models, task names, a method's name."""
        students = _name_students(given.get("students", STUDENTS))
        tasks = _tasks_of_each(given.get("tasks", TASKS_OF_EACH), list(students))
        method = _named(given.get("method", METHOD), "method", METHODS)
        return {**given, "students": students, "tasks": tasks, "method": method}

    def objective_weights(self, method_weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """The whole table: the method's weights, then each task's, then the user's exceptions."""
        tasks: dict[str, Weight] = {
            f"{student}/{task.name}": task.weight
            for student, own in zip(self.students, self.tasks, strict=True)
            for task in own
        }
        rules = {**method_weights, **tasks}
        # A key that the user repeats moves to the end with the user's others: the last match wins.
        return {key: weight for key, weight in rules.items() if key not in self.weights} | self.weights

    def to_yaml(self) -> str:
        """The complete configuration; reading it gives an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)


def load_config(recipe: Path | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """A recipe with overrides ``key=value`` (values are YAML). Raises UserError for whatever cannot be understood."""
    given: dict[str, Any] = {}
    if recipe is not None:
        given = _read_recipe(recipe)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise UserError(f"'{override}' is not of the form key=value. A recipe comes first, before all keys.")
        try:
            _set(given, key.split("."), yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise UserError(f"'{override}': the value is not valid YAML.") from error
    return make_config(given)


def make_config(given: Mapping[str, Any]) -> RunConfig:
    """A configuration from a nested mapping, with shorthands allowed."""
    given = dict(given)
    if isinstance(given.get("data"), str):
        given["data"] = {"name": given["data"]}
    _check_keys(RunConfig, given)
    try:
        return RunConfig.model_validate(given)
    except ValidationError as error:
        raise UserError(_explain(error)) from error


def _read_recipe(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"Recipe '{path}' does not exist.")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"Recipe '{path}' is not valid YAML: {error}") from error
    if not isinstance(given, dict):
        raise UserError(f"Recipe '{path}' should hold keys and values, holds a {type(given).__name__}.")
    return given


def _set(given: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a nested key. ``data=X`` sets data.name alone; ``method=X`` starts over, for settings belong to a method."""
    head, *rest = path
    if not rest:
        if head == "data" and isinstance(value, str) and isinstance(given.get(head), dict):
            given[head] = {**given[head], "name": value}
        else:
            given[head] = value
        return
    inner = given.get(head)
    if inner is not None and not isinstance(inner, (str, dict)):
        raise UserError(f"{head} is {inner!r}: it has no keys, so '{head}.{'.'.join(rest)}' cannot be set.")
    given[head] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
    if head == "method":
        given[head].setdefault("name", METHOD)
    if head == "weights":  # a loss name may hold dots
        rest = [".".join(rest)]
    _set(given[head], rest, value)


def _name_students(given: Any) -> dict[str, str]:
    """A list of models becomes a mapping: models that occur once keep their name, others are numbered."""
    if isinstance(given, list):
        models = [str(model) for model in given]
        names = [model.replace(".", "_").replace("/", "_") for model in models]
        numbered = [f"{n}_{names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names)]
        given = dict(zip(numbered, models, strict=True))
    if not isinstance(given, dict):
        raise UserError(f"students should be a list of models or a mapping name: model, got {given!r}.")
    given = {str(name): model for name, model in given.items()}
    check_student_names(given)
    for model in map(str, given.values()):
        if model not in MODELS:
            raise unknown("model", model, MODELS)
    return {str(name): str(model) for name, model in given.items()}


def _tasks_of_each(given: Any, students: list[str]) -> list[list[dict[str, Any]]]:
    """One entry per student; an entry is a task, a list of tasks, or none. One entry alone is for all."""
    if given is None or given == [] or given == "none":
        return [[] for _ in students]
    if not isinstance(given, list):
        given = [given]
    if len(given) == 1:
        given = given * len(students)
    if len(given) != len(students):
        raise UserError(
            f"{len(given)} tasks for {len(students)} students ({', '.join(students)}): "
            "give one for each student in order, one for all, or none."
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
    named = _named(given, "task", TASKS)
    task = TASKS[named["name"]]
    defaults = {"weight": task.default_weight, "fraction": task.fraction}
    return {**named, **{key: defaults[key] if value is None else value for key, value in common.items()}}


def _named(given: Any, kind: str, choices: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
    """A name, or a mapping with a name and settings -> name and complete settings, checked against the signature."""
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise UserError(f"A {kind} should be one of {', '.join(choices)}, or a mapping with 'name', got {given!r}.")
    name = given["name"]
    if name not in choices:
        raise unknown(kind, name, choices)
    settings = {key: value for key, value in given.items() if key != "name"}
    return {"name": name, "settings": check_settings(choices[name], settings, f"{kind} '{name}'")}


def check_settings(factory: Callable[..., Any], settings: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Settings for the keyword-only parameters of ``factory``, with types checked and defaults filled in."""
    parameters = inspect.signature(factory).parameters.values()
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    fields: dict[str, Any] = {p.name: (hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    for key in settings:
        if key not in fields:
            raise unknown(f"setting of {place}", str(key), fields)
    try:
        model: type[BaseModel] = create_model("Settings", __config__=ConfigDict(allow_inf_nan=False), **fields)
        return model.model_validate(dict(settings)).model_dump()
    except ValidationError as error:
        raise UserError(f"In {place}: {_explain(error)}") from error


def _check_keys(model: type[BaseModel], given: Mapping[str, Any], prefix: str = "") -> None:
    """Unknown keys, before pydantic sees them: with the choices and the nearest one."""
    for key, value in given.items():
        if key not in model.model_fields:
            raise unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in model.model_fields])
        kind = model.model_fields[key].annotation
        if isinstance(kind, type) and issubclass(kind, _Strict):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix}{key} should be a mapping with keys among {', '.join(kind.model_fields)}.")
            _check_keys(kind, value, f"{prefix}{key}.")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        lines.append(f"{where}: {problem['msg']} (got {problem['input']!r}).")
    return " ".join(lines)


def describe_fields(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, description) of every key, for help texts."""
    rows = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Strict):
            rows += describe_fields(kind, f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra
            shown = extra["short"] if isinstance(extra, dict) else field.default
            default = "" if shown is None else str(shown).replace("'", "").replace(", ", ",")
            choices = " | ".join(map(str, get_args(kind))) if getattr(kind, "__origin__", None) is Literal else ""
            rows.append((f"{prefix}{name}", default, "; ".join(filter(None, [field.description, choices]))))
    return rows
