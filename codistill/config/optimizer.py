"""The configuration of the optimizer: which one, its settings, and its learning rate over training."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator

from codistill.config.resolve import Section
from codistill.errors import UserError

# What adamw has where a recipe does not say: the defaults of the keys are those of sgd.
ADAMW = {"lr": 1e-3, "nesterov": False, "weight_decay": 0.05}
BETA2 = 0.999


class OptimizerConfig(Section):
    """What updates the weights, and its schedule."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="adamw for transformers, and for what was pretrained")
    lr: float = Field(0.1, gt=0, description="of adamw 0.001 where none is given")
    lr_factors: dict[str, PositiveFloat] = Field({}, description="student -> times lr, for it and its tasks")
    momentum: float = Field(0.9, ge=0, lt=1, description="of adamw: its first beta")
    beta2: float = Field(BETA2, ge=0, lt=1, description="of adamw alone")
    nesterov: bool = Field(True, description="of sgd alone")
    weight_decay: float = Field(5e-4, ge=0, description="of adamw 0.05 where none is given")
    schedule: Literal["cosine", "step"] = Field("cosine", description="step: x 0.1 at 1/2 and at 3/4 of training")
    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs in which a factor of the rate grows linearly to 1, beside the schedule"
    )
    clip_norm: float | None = Field(None, gt=0, description="of the gradient of each student, task and teacher")

    @property
    def settings(self) -> dict[str, Any]:
        """Which optimizer, and what is the same in every step, as ``torch.optim`` names it."""
        if self.name == "adamw":
            return {"name": "adamw", "betas": (self.momentum, self.beta2), "weight_decay": self.weight_decay}
        return self.model_dump(include={"name", "momentum", "nesterov", "weight_decay"})

    @model_validator(mode="before")
    @classmethod
    def _adamw_has_defaults_of_its_own(cls, given: Any) -> Any:
        return {**ADAMW, **given} if isinstance(given, Mapping) and given.get("name") == "adamw" else given

    @field_validator("lr_factors", mode="before")
    @classmethod
    def _factors_are_numbers(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and any(isinstance(factor, bool) for factor in given.values()):
            raise ValueError("should be numbers, not yes or no")
        return given

    @model_validator(mode="after")
    def _settings_are_of_this_optimizer(self) -> "OptimizerConfig":
        advice = f"optimizer={self.name} starts over with the defaults of {self.name}"
        if self.name == "adamw" and self.nesterov:
            raise UserError(f"optimizer.nesterov=true is of sgd, not of adamw. Set it to false; {advice}.")
        if self.name == "sgd" and self.beta2 != BETA2:
            raise UserError(f"optimizer.beta2={self.beta2:g} is of adamw, not of sgd. Set it to {BETA2}; {advice}.")
        if self.nesterov and self.momentum == 0:
            raise UserError("optimizer.momentum=0 does not go with Nesterov: set optimizer.nesterov=false too.")
        return self
