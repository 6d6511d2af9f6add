"""The configuration of the images: which they are, and how they are augmented."""

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from codistill.config.resolve import Section
from codistill.errors import UserError


def _split_names(given: Any) -> Any:
    """One name as a list of it, and each under the name that splits have here."""
    if given is not None and not isinstance(given, (str, list)):
        return given  # which is then refused by its type
    names = [given] if isinstance(given, str) else given
    other = {"val": "validation", "valid": "validation"}
    return [other.get(name, name) if isinstance(name, str) else name for name in names] if names else names


SplitNames = Annotated[list[Literal["validation", "test"]], BeforeValidator(_split_names)]


class DataConfig(Section):
    """Which images."""

    name: str = Field(
        "digits",
        description="digits, synthetic, a folder (class folders, Parquet, Arrow, WebDataset), a file of these or a CSV "
        "file that lists images, a hub name",
    )
    label: str | None = Field(None, description="label column, where the data has several")
    superclass: str | None = Field(None, description="label column of superclasses, for the task 'coarse'")
    image_size: int | None = Field(None, ge=4, description="resize to this many pixels squared")
    resize: Literal["squash", "crop", "pad"] = Field(
        "squash",
        description="how an image comes to image_size: stretched, its central square, or whole with black beside it",
    )
    classes: int | None = Field(None, ge=2, description="use this many classes, chosen by data.seed")
    per_class: int | None = Field(None, ge=1, description="train on this many images of each class")
    validation: float = Field(0.1, ge=0, lt=1, description="share of train held out, stratified; 0 for none")
    test: float = Field(0.2, gt=0, lt=1, description="share of train held out where the data has no other split")
    ignore_splits: SplitNames = Field(
        [], description="splits of the data that are left out, such as a test split without labels; validation, test"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of every choice above; independent of the run's seed")
    cache: bool = Field(True, description="keep decoded images on disk; a run on the same data starts at once")

    @model_serializer(mode="wrap")
    def _short(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without splits to leave out where there are none, as in runs of earlier versions."""
        dumped: dict[str, Any] = dump(self)
        return {key: value for key, value in dumped.items() if value or key != "ignore_splits"}


def _is_a_number(given: Any) -> Any:
    if isinstance(given, bool):  # pydantic would make 1 of yes
        raise ValueError("should not be yes or no")
    return given


Range = Annotated[list[Annotated[PositiveFloat, BeforeValidator(_is_a_number)]], Field(min_length=2, max_length=2)]


class AugmentConfig(Section):
    """What training images go through. None is filled in from the data."""

    crop: Literal["padded", "resized", "none"] = Field(
        "padded", description="as large as the image, from within a border; or of any size, resized; none"
    )
    padding: int | None = Field(None, ge=0, description="reflected pixels around a padded crop; default: size / 8")
    scale: Range = Field([0.08, 1.0], description="of a resized crop: its share of the image's area, from and to")
    ratio: Range = Field([0.75, 1.3333], description="of a resized crop: width over height, from and to")
    flip: bool | None = Field(
        None,
        description="mirror half of the images, where left and right do not matter; default: yes, but not for digits",
    )
    per_student: bool | None = Field(
        None, description="each student sees an augmentation of its own; default: as its method has it; after burn-in"
    )
    policy: Literal["none", "trivial", "rand"] = Field(
        "none", description="operations such as turning or brightening: TrivialAugment (wide), RandAugment"
    )
    operations: int = Field(2, ge=1, description="of RandAugment, on each image")
    magnitude: int = Field(9, ge=0, le=30, description="of RandAugment's operations, from 0 to 30")
    mixup: NonNegativeFloat = Field(0.0, description="alpha: batches mixed with themselves; 0 for none, 0.2 is common")
    cutmix: NonNegativeFloat = Field(0.0, description="alpha: a box shows another image; 0 for none, 1 is common")

    @model_validator(mode="after")
    def _fits_together(self) -> "AugmentConfig":
        if self.padding and self.crop != "padded":
            raise UserError(f"augment.padding={self.padding} needs augment.crop=padded, not {self.crop}. Leave it out.")
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high or (name == "scale" and high > 1):
                raise UserError(
                    f"augment.{name}={[low, high]} should go from a smaller to a larger number"
                    f"{', 1 at most' if name == 'scale' else ''}."
                )
        return self
