"""A student's weights under the names that plain code expects, and the normalisation that goes with them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from codistill.core.student import Student
from codistill.models.timm_models import TIMM, TimmBackbone, make_plain_timm


class Plain(NamedTuple):
    """What rebuilds a network without its cohort."""

    model: dict[str, Any]  # model.json: ``library``, and the ``name`` and ``settings`` with which it makes the network
    weights: dict[str, Tensor]
    mean: list[float]  # of the pixels in [0, 1] that this network is given, by which they are normalised
    std: list[float]


def plain(
    student: Student,
    model: str | Mapping[str, Any],
    image_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
) -> Plain:
    """A student on the CPU, of ``model`` (a name, or a mapping with name and settings); mean and std are its images'.

    One of timm becomes what ``timm.create_model(name, num_classes=K)`` loads, if that then says the same: timm gives
    some models two classifiers where a student has one. Others keep their names, for ``codistill.load_student``.
    """
    settings: dict[str, Any]
    name, settings = (model, {}) if isinstance(model, str) else (model["name"], {**model})
    settings = {key: value for key, value in settings.items() if key not in ("name", "pretrained", "sha256")}
    weights = {key: tensor.detach().contiguous().clone() for key, tensor in student.state_dict().items()}
    # What a student does to its images first belongs to their normalisation.
    scale, shift = weights.get("input_scale"), weights.get("input_shift")
    of_timm = None
    if name.startswith(TIMM) and "full_resolution_stem" not in settings:
        timm_model: Any = cast(TimmBackbone, student.backbone).model
        own_settings = dict(settings)
        if timm_model.pretrained_cfg.get("fixed_input_size"):
            own_settings.setdefault("img_size", list(image_size))
        classifier = timm_model.pretrained_cfg["classifier"]
        if isinstance(classifier, str):
            of_timm = _loaded_by_timm(student, timm_weights(weights, classifier), name, own_settings, image_size)
    if of_timm is not None:
        weights, settings = of_timm, own_settings
        if scale is not None and shift is not None:
            mean, std = in_one_step(mean, std, scale.flatten().tolist(), shift.flatten().tolist())
        facts = {"library": "timm", "name": name.removeprefix(TIMM), "settings": settings}
    else:
        facts = {"library": "codistill", "name": name, "settings": settings}
    return Plain({**facts, "num_classes": student.classifier.out_features}, weights, list(mean), list(std))


@torch.no_grad()
def _loaded_by_timm(
    student: Student, own: Mapping[str, Tensor], name: str, settings: Mapping[str, Any], image_size: tuple[int, int]
) -> dict[str, Tensor] | None:
    """The weights as timm's own model of that name loads them; None if it does not, or then says something else."""
    network = make_plain_timm(name, student.classifier.out_features, settings).eval()
    expected = network.state_dict()
    if own.keys() != expected.keys() or any(own[key].numel() != expected[key].numel() for key in own):
        return None
    own = {key: tensor.reshape(expected[key].shape) for key, tensor in own.items()}  # a classifier may be 1x1 maps
    network.load_state_dict(own)
    images = torch.rand(2, 3, *image_size, generator=torch.Generator().manual_seed(0))
    seen = images
    if student.input_scale is not None and student.input_shift is not None:
        seen = images * student.input_scale + student.input_shift
    was_training = student.training
    answer = student.eval()(images).logits
    student.train(was_training)
    return own if torch.allclose(network(seen), answer, atol=1e-4, rtol=1e-4) else None


def timm_weights(weights: Mapping[str, Tensor], classifier: str) -> dict[str, Tensor]:
    """A student's weights under the names that the timm model of its backbone has for them.

    classifier: timm's name of the last layer, ``pretrained_cfg["classifier"]`` of the model.
    """
    prefix = "backbone.model."
    return {
        key.removeprefix(prefix) if key.startswith(prefix) else key.replace("classifier", classifier, 1): tensor
        for key, tensor in weights.items()
        if key.startswith((prefix, "classifier."))
    }


def in_one_step(
    mean: Sequence[float], std: Sequence[float], scale: Sequence[float], shift: Sequence[float]
) -> tuple[list[float], list[float]]:
    """The mean and std that do in one step what (pixel - mean) / std * scale + shift does."""
    stds = [s / by for s, by in zip(std, scale, strict=True)]
    means = [m - plus * s for m, plus, s in zip(mean, shift, stds, strict=True)]
    return means, stds
