"""What is said before training about models that hardly fit their images."""

import pytest

from codistill.models import Model, make_backbone
from codistill.models.checks import warnings_of_models


def warnings_of(*models: Model, size: int = 32) -> list[str]:
    names = dict(zip("abc", models, strict=False))
    backbones = {name: make_backbone(model, (size, size), pretrained=False) for name, model in names.items()}
    return warnings_of_models(names, backbones, (size, size))


@pytest.mark.usefixtures("timm")
def test_a_stem_that_throws_pixels_away_is_warned_of_once_with_both_ways_out() -> None:
    (said,) = warnings_of("timm/resnet10t", "timm/resnet10t", "resnet8")
    assert "'timm/resnet10t' is made for larger images: its first layer steps by 2 pixels" in said
    assert "data.image_size=128" in said
    assert "{name: timm/resnet10t, full_resolution_stem: true}" in said
    assert not warnings_of({"name": "timm/resnet10t", "full_resolution_stem": True})
    assert not warnings_of("timm/resnet10t", size=96)


@pytest.mark.usefixtures("timm")
def test_patches_too_large_are_warned_of_and_the_smaller_ones_work() -> None:
    (said,) = warnings_of("timm/test_vit")
    assert "steps by 16 pixels" in said
    assert "{name: timm/test_vit, patch_size: 4}" in said
    backbone = make_backbone({"name": "timm/test_vit", "patch_size": 4}, (32, 32))
    assert backbone.model.patch_embed.grid_size == (8, 8)


def test_the_papers_networks_are_nothing_to_warn_of() -> None:
    assert not warnings_of("mobilenetv2", "mobilenetv2")


@pytest.mark.usefixtures("timm")
def test_two_students_of_the_same_pretrained_weights_are_warned_of() -> None:
    model = {"name": "timm/test_resnet", "pretrained": True}
    (said,) = warnings_of(model, model, "timm/test_resnet", size=96)
    assert "Students 'a' and 'b' start from the same pretrained weights" in said
    assert not warnings_of("timm/test_resnet", "timm/test_resnet", size=96)
