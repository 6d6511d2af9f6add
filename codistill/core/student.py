"""A student: any backbone behind one face, turning images into logits, an embedding and stage maps.

A backbone is any module with the feature interface of timm:

- ``forward_intermediates(images, output_fmt="NCHW")`` returns the final features and the list of stage maps;
- ``forward_head(features)`` returns the embedding that a classifier reads;
- ``head_hidden_size`` is that embedding's width;
- ``pixel_statistics``, if it is there and not None: mean and std per channel, of pixels in [0, 1], by which the images
  were normalised that its weights come from.

Shapes are never looked up in tables: ``observe_shapes`` reads them off one dry forward pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, Self, cast

import torch
from torch import Tensor, nn

from codistill.errors import UserError

LONGEST_NAME = 200  # bytes: file names end at 255, and a name gets a suffix


class StudentOutput(NamedTuple):
    """What a student (or a teacher that can itself be taught) says about B images, of K classes."""

    logits: Tensor  #: (B, K)
    embedding: Tensor  #: (B, D) what the classifier reads
    feature_maps: tuple[Tensor, ...]  #: (B, C_s, H_s, W_s) per stage, channels first whatever the backbone


Statistics = tuple[Sequence[float], Sequence[float]]  # mean and std of each channel, of pixels in [0, 1]


class StudentShape(NamedTuple):
    """The sizes of one student's outputs, without the batch dimension."""

    num_classes: int
    embedding: int
    feature_maps: tuple[tuple[int, int, int], ...]  #: (C_s, H_s, W_s) per stage


class Branchable(nn.Module, ABC):
    """A backbone that can share its first layers, the trunk, with others of its kind, and branch off after them."""

    @abstractmethod
    def share_trunk(self, other: Self) -> None:
        """Use the trunk of ``other`` in place of the own one. Both stay whole networks."""

    @abstractmethod
    def forward_trunk(self, x: Tensor) -> list[Tensor]:
        """Images -> the trunk's stage maps; the branches go on from the last."""

    @abstractmethod
    def forward_branch(self, trunk: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The trunk's stage maps -> what ``forward_intermediates`` returns."""


class Backbone(Protocol):
    """The part of timm's feature interface that a student uses."""

    head_hidden_size: int

    def forward_intermediates(self, x: Tensor, *, output_fmt: str) -> tuple[Tensor, list[Tensor]]: ...

    def forward_head(self, x: Tensor) -> Tensor: ...


class Student(nn.Module):
    """A backbone with a linear classifier. This is also the network that is deployed.

    ``data_statistics`` are those that its images are normalised by. Where the backbone's pretrained weights expect
    others, the student makes those of these, and what it multiplies by and adds is saved with it.
    """

    input_scale: Tensor | None
    input_shift: Tensor | None

    def __init__(self, backbone: nn.Module, num_classes: int, data_statistics: Statistics | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(cast(Backbone, backbone).head_hidden_size, num_classes)
        own: Statistics | None = getattr(backbone, "pixel_statistics", None)
        scale, shift = None, None
        if own is not None and data_statistics is not None:
            scale, shift = renormalisation(data_statistics, own)
        self.register_buffer("input_scale", scale)
        self.register_buffer("input_shift", shift)

    def forward(self, images: Tensor) -> StudentOutput:
        """See (B, C, H, W) images."""
        images = self._as_pretrained(images)
        return self._classify(*cast(Backbone, self.backbone).forward_intermediates(images, output_fmt="NCHW"))

    def forward_trunk(self, images: Tensor) -> list[Tensor]:
        """The stage maps of the trunk, for a branchable backbone."""
        return cast(Branchable, self.backbone).forward_trunk(self._as_pretrained(images))

    def forward_branch(self, trunk: Sequence[Tensor]) -> StudentOutput:
        """Go on from ``forward_trunk``."""
        return self._classify(*cast(Branchable, self.backbone).forward_branch(trunk))

    def _as_pretrained(self, images: Tensor) -> Tensor:
        if self.input_scale is None or self.input_shift is None:
            return images
        return torch.addcmul(self.input_shift, images, self.input_scale)

    def _classify(self, features: Tensor, maps: list[Tensor]) -> StudentOutput:
        embedding = cast(Backbone, self.backbone).forward_head(features)
        return StudentOutput(self.classifier(embedding), embedding, tuple(maps))


def renormalisation(given: Statistics, wanted: Statistics) -> tuple[Tensor, Tensor]:
    """Scale and shift, each (C, 1, 1), from images normalised by ``given`` to the same normalised by ``wanted``.

    (pixel - M) / S = (pixel - m) / s * s / S + (m - M) / S.
    """
    (mean, std), (wanted_mean, wanted_std) = (
        [torch.tensor(values, dtype=torch.float64)[:, None, None] for values in statistics]
        for statistics in (given, wanted)
    )
    return (std / wanted_std).float(), ((mean - wanted_mean) / wanted_std).float()


def check_student_names(names: Collection[str]) -> None:
    """Raises UserError unless there is a name, and each is fit for loss names, patterns and PyTorch's modules."""
    if not names:
        raise UserError("A cohort needs a student, got none.")
    for name in names:
        if not name or set(name) & set("./\\*?[]"):
            raise UserError(f"A student's name may not be empty or contain any of . / \\ * ? [ ], got {name[:50]!r}.")
        if not name.isprintable() or len(name.encode()) > LONGEST_NAME:
            raise UserError(
                f"A student's name should be printable and have at most {LONGEST_NAME} bytes, got {name[:50]!r}: "
                "its weights are saved in a file of that name."
            )
        if name in dir(nn.ModuleDict):
            raise UserError(f"'{name}' cannot name a student: PyTorch's modules use it. Name the student otherwise.")
    if len({name.casefold() for name in names}) < len(names):
        raise UserError(f"Students need names that differ in more than case, got {', '.join(names)}: they name files.")


def share_trunk(students: Mapping[str, Student]) -> None:
    """Let all students use the first one's trunk. Raises UserError unless all are of one kind that can branch."""
    (first_name, first), *others = students.items()
    for name, student in [(first_name, first), *others]:
        if not isinstance(student.backbone, Branchable) or type(student.backbone) is not type(first.backbone):
            raise UserError(
                f"This method shares a trunk: all students must be the same model, of a kind that can branch. Student "
                f"'{name}' is a {type(student.backbone).__name__}, '{first_name}' a {type(first.backbone).__name__}."
            )
    for _, student in others:
        cast(Branchable, student.backbone).share_trunk(cast(Branchable, first.backbone))


def observe_shapes(student: Student, image_shape: tuple[int, int, int]) -> StudentShape:
    """The student's output sizes for images of (C, H, W), from one dry pass that leaves no trace in it.

    Raises UserError for outputs of other shapes than ``StudentOutput`` has.

    >>> from codistill.models import CifarResNet
    >>> observe_shapes(Student(CifarResNet(8), num_classes=10), (3, 32, 32))
    StudentShape(num_classes=10, embedding=64, feature_maps=((16, 32, 32), (32, 16, 16), (64, 8, 8)))
    """
    was_training = student.training
    parameter = next(student.parameters())
    try:
        with torch.no_grad():
            output = student.eval()(torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        student.train(was_training)
    _check_shapes(output, type(student.backbone).__name__)
    sizes = [tuple(feature_map.shape[1:]) for feature_map in output.feature_maps]
    return StudentShape(output.logits.shape[1], output.embedding.shape[1], tuple(sizes))


def _check_shapes(output: StudentOutput, backbone: str) -> None:
    if not output.feature_maps:
        raise UserError(f"{backbone}.forward_intermediates gives no stage maps: it should give one at least.")
    for number, feature_map in enumerate(output.feature_maps):
        if feature_map.ndim != 4:
            raise UserError(
                f"Stage map {number} of {backbone}.forward_intermediates should be (B, C, H, W), is "
                f"{tuple(feature_map.shape)}. Tokens (B, H * W, C) become one by transpose(1, 2).unflatten(2, (H, W))."
            )
    if output.embedding.ndim != 2:
        raise UserError(f"{backbone}.forward_head should give (B, D), gives {tuple(output.embedding.shape)}.")
