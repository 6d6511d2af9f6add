"""The configuration of a run: one model, complete, in which a wrong key cannot hide.

What is written to the run folder has every default filled in, so that it reproduces the run by itself.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)

from codistill.config.data import AugmentConfig, DataConfig
from codistill.config.faults import Poison
from codistill.config.optimizer import OptimizerConfig
from codistill.config.resolve import AUTO, Section, Strict, explain, name_students, named, settings_of, tasks_of_each
from codistill.core.objective import Ramp, Weight
from codistill.errors import UserError, unknown
from codistill.errors.nearest import nearest
from codistill.methods import METHODS
from codistill.models import Model

STUDENTS = "resnet8"
METHOD = "collaborative"  # whose settings are meant where only a setting is given, method.temperature=3
IF_SET = ("peers", "replanned")  # keys that are written down only where they hold something
# What a key is called here that others, or readers of the documentation, call otherwise.
ELSEWHERE = {
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "resolution": "data.image_size",
    "model": "students",
    "models": "students",
    "fraction": "tasks=[{name: jigsaw, fraction: 0.5}]",
}


class Named(Strict):
    """Something chosen by name, with its settings: ``dml`` or ``{name: dml, temperature: 3}``."""

    name: str
    settings: dict[str, Any] = Field({})

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


class Replanned(Strict):
    """Until ``until_step`` steps were done, training was meant to last ``epochs``: schedules and ramps went by it."""

    until_step: int = Field(ge=1)
    epochs: int = Field(ge=1)


def _check_weight(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        if not isinstance(given, bool):
            return check(given)
    except ValueError:
        pass  # pydantic explains a number and a ramp, each at length
    raise ValueError("should be a number from 0 up, or {weight: 1, over: 0.3} to ramp up over that share of training")


class RunConfig(Strict):
    """Everything that a run depends on."""

    # The defaults of these three are shorthands; _spell_out completes them like the user's own.
    students: dict[str, Model] = Field(
        description="one model, for two students or, in a short training, one; or a list, or a mapping from a name of "
        "your choice; a model is a name, or {name: ..., settings}",
        json_schema_extra={"short": STUDENTS},
    )
    tasks: list[list[TaskConfig]] | Literal["auto"] = Field(
        description="one for each student, in order; one for all; none; auto: what pays in a training of this length",
        json_schema_extra={"short": AUTO},
    )
    method: Named = Field(
        description="how students learn from each other; auto: collaborative, or independent in a short training",
        json_schema_extra={"short": AUTO},
    )
    peers: Literal["auto"] | None = Field(
        None, description="auto, which students=MODEL sets: one student alone where training is too short for two"
    )
    weights: dict[str, Annotated[NonNegativeFloat | Ramp, WrapValidator(_check_weight)]] = Field(
        {}, description="loss name or pattern -> number, or {weight: 1, over: 0.3} to ramp up; the last match wins"
    )
    burn_in: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = Field(
        AUTO,
        description="share of the epochs in which one network is trained for all students, which go on from its "
        "weights; auto: 0.5 where method is auto too, and students are of one model",
    )
    view_statistics: Literal["together", "clean_only"] = Field(
        "together", description="which views count in batch normalisation"
    )
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: int = Field(128, ge=2, description="of all processes together")
    epochs: int = Field(100, ge=1)
    replanned: list[Replanned] = Field(
        [], description="of a run whose epochs were decided anew: how many there were to be, until which step"
    )
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N, mps (never tried)")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of what students compute, weights stay fp32; fp16 is for GPUs without bf16"
    )
    compile: bool | Literal["auto", "cuda_graphs"] = Field(
        "auto",
        description="faster steps after half a minute; auto: on CUDA, if possible | true | false | cuda_graphs",
    )
    side_by_side: bool | Literal["auto"] = Field(
        "auto", description="on a CPU, students in a thread each; auto: where it changes no results | true | false"
    )
    sync_batchnorm: bool = Field(False, description="on CUDA with several processes, normalise over their whole batch")
    sharding: Literal["none", "parameters"] = Field(
        "none", description="parameters: divided among several processes, for large students"
    )
    log_every: int = Field(50, ge=1, description="steps between two lines of metrics.jsonl")
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        [], description="log there too: tensorboard, wandb, mlflow, trackio"
    )
    project: str = Field("codistill", min_length=1, description="where wandb, mlflow and trackio file the run")
    save_minutes: float = Field(10.0, gt=0, description="also save within an epoch, when so many minutes have passed")
    order: Literal["shuffled", "class_pairs", "balanced"] = Field(
        "shuffled",
        description="of the images; class_pairs shows two of a class in a row, for contrastive losses; balanced shows "
        "every class as often",
    )

    poison: Poison | None = Field(
        None, description="one student harmed on purpose, such as {student: b, random_labels: 0.8}; codistill stress"
    )

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Shorthands -> the full form: lists of models, task names, a method's name."""
        students = given.get("students", STUDENTS)
        if isinstance(students, str):
            given = {"peers": AUTO, **given}
        students = name_students(students)
        tasks = tasks_of_each(given.get("tasks", AUTO), list(students))
        method = given.get("method", AUTO)
        full = (
            {"name": AUTO}
            if method in (AUTO, {"name": AUTO})
            else named(method, "method", METHODS, elsewhere=every_key())
        )
        return {**given, "students": students, "tasks": tasks, "method": full}

    @field_validator("weights")
    @classmethod
    def _names_losses(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if not name.isprintable():  # nor could half a character be written into config.yaml
                raise ValueError(f"should name losses in printable characters, not {name!r}")
        return given

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, given: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", given):
            raise ValueError("should be auto, cpu, cuda, cuda:N or mps")
        return given

    @model_validator(mode="after")
    def _poisons_a_student(self) -> "RunConfig":
        if self.poison is None:
            return self
        if self.poison.student not in self.students:
            raise unknown("student in poison", self.poison.student, self.students)
        if self.poison.random_labels and (self.augment.mixup or self.augment.cutmix):
            raise UserError("poison.random_labels and images of two labels do not go together: leave mixing out.")
        return self

    @model_validator(mode="after")
    def _have_peers(self) -> "RunConfig":
        if len(self.students) == 1 and self.method.name not in (AUTO, "independent"):
            raise UserError(
                f"With method={self.method.name} students teach each other, but there is one: "
                f"{', '.join(self.students)}. Give two or more, or set method=independent."
            )
        return self

    @model_validator(mode="after")
    def _factors_are_of_students(self) -> "RunConfig":
        for name in self.optimizer.lr_factors:
            if name not in self.students:
                raise unknown("student in optimizer.lr_factors", name, self.students)
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "RunConfig":
        if self.optimizer.warmup_epochs > self.epochs:
            raise UserError(
                f"optimizer.warmup_epochs={self.optimizer.warmup_epochs:g} is more than epochs={self.epochs}: the "
                "learning rate would never be reached. Lower it."
            )
        return self

    @model_validator(mode="after")
    def _is_poisoned_when_it_was_planned(self) -> "RunConfig":
        if self.replanned and self.poison is not None and self.poison.reinitialise is not None:
            raise UserError("poison.reinitialise is at a share of training, which must not change: keep its epochs.")
        return self

    @model_serializer(mode="wrap")
    def _short(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what only some runs have."""
        dumped: dict[str, Any] = dump(self)
        return {key: value for key, value in dumped.items() if value or key not in IF_SET}

    @property
    def tasks_of_students(self) -> dict[str, list[TaskConfig]]:
        """Each student's own; of a configuration that is settled."""
        if isinstance(self.tasks, str):
            raise ValueError("tasks=auto is not settled yet: see codistill.training.auto.")
        return dict(zip(self.students, self.tasks, strict=True))

    @property
    def lr_factors(self) -> dict[str, float]:
        """Student -> times the learning rate: the user's factors, and a poison's."""
        factors = dict(self.optimizer.lr_factors)
        if self.poison is not None and self.poison.learning_rate:
            factors[self.poison.student] = factors.get(self.poison.student, 1.0) * self.poison.learning_rate
        return factors

    def objective_weights(self, method_weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """The whole table: the method's weights, then each task's, then the user's exceptions."""
        tasks: dict[str, Weight] = {
            f"{student}/{task.name}": task.weight for student, own in self.tasks_of_students.items() for task in own
        }
        rules = {**method_weights, **tasks}
        # A key that the user repeats moves to the end with the user's others: the last match wins.
        return {key: weight for key, weight in rules.items() if key not in self.weights} | self.weights

    def to_yaml(self) -> str:
        """The complete configuration; reading it gives an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)


def make_config(given: Mapping[str, Any]) -> RunConfig:
    """A configuration from a nested mapping, with shorthands allowed. Raises UserError for what cannot be understood.

    >>> config = make_config({"students": ["resnet8", "resnet20"], "method": "dml", "tasks": "none"})
    >>> config.students
    {'resnet8': 'resnet8', 'resnet20': 'resnet20'}
    >>> config.method.settings
    {'temperature': 1.0, 'ramp': 0.0}
    >>> make_config({"method": "dlm"})
    Traceback (most recent call last):
    codistill.errors.UserError: Unknown method 'dlm'. Did you mean 'dml'? Choices: independent, dml, kdcl, ...
    """
    given = dict(given)
    for key in ("data", "optimizer"):
        if isinstance(given.get(key), str):
            given[key] = {"name": given[key]}
    _check_keys(RunConfig, given, [*RunConfig.model_fields, *every_key(), *_keys_of_method(given.get("method"))])
    try:
        return RunConfig.model_validate(given)
    except ValidationError as error:
        raise UserError(explain(error)) from error


def every_key() -> list[str]:
    """Every key with its section: ``data.name``, ``epochs``."""
    return [key for key, _, _ in describe_fields()]


def _keys_of_method(method: Any) -> list[str]:
    """The settings of the method that is asked for, as keys: ``method.temperature``."""
    name = method.get("name") if isinstance(method, Mapping) else METHOD if method is None else method
    return [f"method.{setting}" for setting in settings_of(METHODS[name])] if name in METHODS else []


def _check_keys(model: type[BaseModel], given: Mapping[str, Any], known: list[str], prefix: str = "") -> None:
    """Unknown keys, before pydantic sees them: with the choices, and the nearest of all ``known`` ones."""
    for key, value in given.items():
        if key not in model.model_fields:
            choices = [f"{prefix}{name}" for name in model.model_fields]
            for whole in (_whole_key(f"{prefix}{key}", value), f"{prefix}{key}"):
                near = [ELSEWHERE[name] for name in (whole, whole.split(".")[-1]) if name in ELSEWHERE][:1]
                if near := near or nearest(whole, known):
                    break
            raise unknown("key", whole, choices, near)
        kind = model.model_fields[key].annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            if not isinstance(value, Mapping):
                raise UserError(f"{prefix}{key} should be a mapping with keys among {', '.join(kind.model_fields)}.")
            _check_keys(kind, value, known, f"{prefix}{key}.")


def _whole_key(key: str, value: Any) -> str:
    """``optimiser.lr`` of ``optimiser: {lr: 1}``, which is what ``optimiser.lr=1`` has become."""
    while isinstance(value, Mapping) and len(value) == 1:
        ((inner, value),) = value.items()
        key = f"{key}.{inner}"
    return key


def describe_fields(model: type[BaseModel] = RunConfig, prefix: str = "") -> list[tuple[str, str, str]]:
    """(key, default, description) of every key, for help texts."""
    rows = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            rows += describe_fields(kind, f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra
            shown = extra["short"] if isinstance(extra, dict) else field.default
            default = "" if shown is None else str(shown).replace("'", "").replace(", ", ",")
            choices = " | ".join(map(str, get_args(kind))) if getattr(kind, "__origin__", None) is Literal else ""
            rows.append((f"{prefix}{name}", default, "; ".join(filter(None, [field.description, choices]))))
    return rows
