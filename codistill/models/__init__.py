"""Backbones by name. To add one: a file, a test, a line here. A name of timm and a user's own factory go as well."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from codistill.errors import UserError, unknown
from codistill.errors.nearest import nearest
from codistill.models.base import Staged
from codistill.models.cifar_resnet import DEPTHS, WIDTHS, X4, CifarResNet
from codistill.models.custom import make_own
from codistill.models.densenet import DenseNet
from codistill.models.digest import check_digest, with_digest
from codistill.models.mobilenetv2 import MobileNetV2
from codistill.models.pretrained import is_of_a_student, start_from
from codistill.models.shufflenetv1 import ShuffleNetV1
from codistill.models.shufflenetv2 import ShuffleNetV2
from codistill.models.timm_models import TIMM, make_timm, names_in_timm
from codistill.models.vgg import CONVOLUTIONS, VGG
from codistill.models.wide_resnet import WideResNet

WIDE = ((16, 1), (16, 2), (40, 1), (40, 2), (28, 10))

# Each is called as make(**settings). What makes a network the one of its name is bound by position: a keyword would be
# a setting, which a user could change.
MODELS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in DEPTHS},
    **{f"resnet{depth}x4": partial(CifarResNet, depth, X4) for depth in (8, 32)},
    **{f"resnet{depth}_bottleneck": partial(CifarResNet, depth, WIDTHS, True) for depth in (56, 110)},
    "wrn_20_8": partial(CifarResNet, 20, WIDTHS, True, 8),
    **{f"wrn_{depth}_{factor}": partial(WideResNet, depth, factor) for depth, factor in WIDE},
    **{f"vgg{depth}": partial(VGG, depth) for depth in CONVOLUTIONS},
    "densenet_40_12": partial(DenseNet, 40, 12),
    "mobilenetv2": MobileNetV2,
    "shufflenetv1": ShuffleNetV1,
    "shufflenetv2": ShuffleNetV2,
}

ALIKE = 0.8  # mobilenetv3_small_050, which is of timm, is no misspelt mobilenetv2

Model = str | Mapping[str, Any]  # a name, or a mapping with name and settings


def is_foreign(name: str) -> bool:
    """Whether a name means a model that is not in the table: one of timm, or a user's own factory."""
    return name.startswith(TIMM) or re.fullmatch(r"[\w.]+:[\w.]+", name) is not None


def is_from_a_table(name: str) -> bool:
    """Whether a name means a model of ours or of timm, whose settings are known here; not a user's own factory."""
    return name.startswith(TIMM) or not is_foreign(name)


def name_and_settings(model: Model) -> tuple[str, dict[str, Any]]:
    """``resnet8`` or ``{name: timm/resnet10t, pretrained: true}`` -> the name, and the settings."""
    if isinstance(model, str):
        return model, {}
    return model["name"], {key: value for key, value in model.items() if key != "name"}


def as_it_begins(model: Model) -> Model:
    """The model with the digest, ``sha256``, of the file that it begins with, if it begins with one."""
    name, settings = name_and_settings(model)
    if not is_from_a_table(name):  # what settings of a user's function mean is for it to say
        return model
    settings = with_digest(settings)
    return {"name": name, **settings} if settings else name


def begins_alike(one: Model, other: Model) -> bool:
    """Whether two models are the same, and begin with the same file as far as its digest is known of both."""
    (name, settings), (other_name, other_settings) = name_and_settings(one), name_and_settings(other)
    if name == other_name and is_from_a_table(name):
        digests = {settings.pop("sha256", None), other_settings.pop("sha256", None)} - {None}
        return settings == other_settings and len(digests) < 2
    return one == other


def as_they_began(now: Mapping[str, Model], then: Mapping[str, Model]) -> dict[str, Model]:
    """Students' models as a run has them, with the digests that it knows, wherever they are the same."""
    return {name: then[name] if name in then and begins_alike(own, then[name]) else own for name, own in now.items()}


def unknown_model(name: str) -> UserError:
    """An error for a name that is none of ours; it may be one of timm's without what those begin with."""
    of_timm = names_in_timm()
    near = nearest(name, [*MODELS, *of_timm], cutoff=ALIKE)
    perhaps = "" if of_timm else f", such as {TIMM}{name} if timm has it"
    return UserError(f"{unknown('model', name, MODELS, near)} Models of timm are called timm/NAME{perhaps}.")


def make_backbone(model: Model, image_size: tuple[int, int] | None = None, *, pretrained: bool = True) -> nn.Module:
    """The backbone of a model, with its weights drawn from PyTorch's random state or, if it asks so, pretrained.

    ``image_size`` (height, width) is for models of timm that are made for one size. ``pretrained=False``: no weights
    are read, for others will be loaded. Raises UserError for a model or a setting that there is not, and for weights
    that cannot be read, or are not those of the digest that the model names.
    """
    name, settings = name_and_settings(model)
    if not is_from_a_table(name):
        return make_own(name, settings)
    digest = settings.pop("sha256", None)
    if pretrained and digest is not None:
        check_digest(settings["pretrained"], digest)
    backbone: nn.Module
    earlier = settings.get("pretrained") if pretrained else None  # the file of a student, perhaps
    if name.startswith(TIMM):
        earlier = earlier if is_of_a_student(earlier) else None
        backbone = make_timm(name, settings, image_size, pretrained and earlier is None)
    elif name in MODELS:
        backbone = MODELS[name](**{key: value for key, value in settings.items() if key != "pretrained"})
    else:
        raise unknown_model(name)
    if earlier is not None:
        start_from(earlier, backbone, name)
    return backbone


__all__ = [
    "MODELS",
    "TIMM",
    "CifarResNet",
    "Model",
    "Staged",
    "as_it_begins",
    "as_they_began",
    "begins_alike",
    "is_foreign",
    "is_from_a_table",
    "make_backbone",
    "name_and_settings",
    "unknown_model",
]
