"""What is possible with a model but hardly meant, said before training starts."""

import inspect
from collections.abc import Mapping
from itertools import combinations

from torch import nn

from codistill.models import Model, is_foreign, name_and_settings
from codistill.models.timm_models import TimmBackbone

SMALL = 64  # pixels; models of timm are made for 224 as a rule


def warnings_of_models(
    models: Mapping[str, Model], backbones: Mapping[str, nn.Module], image_size: tuple[int, int]
) -> list[str]:
    """Foreign models that throw small images away in their first layer, and students of the same pretrained weights."""
    warnings = {}
    for student, model in models.items():
        name, settings = name_and_settings(model)
        stem = first_convolution(backbones[student])
        if is_foreign(name) and max(image_size) <= SMALL and stem is not None and max(stem.stride) > 1:
            warnings[name, str(settings)] = _about_stem(name, stem, backbones[student], image_size)
    found = [*warnings.values()]
    for one, other in combinations(models, 2):
        if models[one] == models[other] and name_and_settings(models[one])[1].get("pretrained"):
            found.append(
                f"Students '{one}' and '{other}' start from the same pretrained weights and differ only in their "
                "classifiers: they can teach each other little. Give one other weights, or be it another model."
            )
    return found


def first_convolution(backbone: nn.Module) -> nn.Conv2d | None:
    """The first convolution as modules are listed, which in all models of timm is the stem or the patch embedding."""
    return next((module for module in backbone.modules() if isinstance(module, nn.Conv2d)), None)


def _about_stem(name: str, stem: nn.Conv2d, backbone: nn.Module, image_size: tuple[int, int]) -> str:
    stride, height, width = max(stem.stride), *image_size
    smaller = ""
    if isinstance(backbone, TimmBackbone):
        patches = stem.kernel_size == stem.stride
        if patches and "patch_size" in inspect.signature(type(backbone.model)).parameters:
            smaller = f", or patches smaller: {{name: {name}, patch_size: {max(1, stride // 4)}}}"
        elif not patches and stem.stride == (2, 2):
            smaller = f", or keep them whole: {{name: {name}, full_resolution_stem: true}}"
    return (
        f"'{name}' is made for larger images: its first layer steps by {stride} pixels, and images have {width} x "
        f"{height}. Make images larger: data.image_size={4 * max(image_size)}{smaller}."
    )
