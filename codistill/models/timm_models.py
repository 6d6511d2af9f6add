"""Any model of timm as a backbone: ``timm/NAME``, convolutional or transformer, from scratch or pretrained.

Settings are the keyword arguments of ``timm.create_model``, and two of our own:

- ``pretrained: true`` reads timm's weights from the Hugging Face hub, ``pretrained: FILE`` from a file (or, see
  ``codistill.models.pretrained``, from a student of an earlier run);
- ``full_resolution_stem: true`` makes the first convolution step by one pixel instead of two and leaves out the
  pooling after it, as is usual for images of 32 pixels. No model's own arguments do that for ResNets.

Convolutional models give one map per stage. Transformers without stages give one per block, of which four are taken,
evenly spaced to the last. timm is imported when a student asks for it, and only here.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from codistill.errors import UserError, first_line
from codistill.errors.libraries import importing
from codistill.errors.nearest import nearest

TIMM = "timm/"
OURS = ("num_classes", "features_only", "checkpoint_path")  # settings that are not for users to choose
MAPS, MOST_MAPS = 4, 6  # of so many at most all are given, else four
STEM_CONVOLUTIONS = 3  # pooling that comes later belongs to no stem


class TimmBackbone(nn.Module):
    """A model of timm without its classifier: ``model`` is what ``timm.create_model`` made."""

    def __init__(self, model: Any, pixel_statistics: tuple[list[float], list[float]] | None) -> None:
        super().__init__()
        self.model = model
        self.head_hidden_size = model.head_hidden_size
        self.pixel_statistics = pixel_statistics
        maps = len(model.feature_info)
        self.indices = [maps * (i + 1) // MAPS - 1 for i in range(MAPS)] if maps > MOST_MAPS else None

    def forward_intermediates(self, x: Tensor, *, output_fmt: str = "NCHW") -> tuple[Tensor, list[Tensor]]:
        """Images (B, 3, H, W) -> final features as the model has them, and maps (B, C, H, W)."""
        return cast(Any, self.model).forward_intermediates(x, indices=self.indices, output_fmt=output_fmt)

    def forward_head(self, x: Tensor) -> Tensor:
        """Final features -> embedding (B, head_hidden_size)."""
        return cast(Any, self.model).forward_head(x, pre_logits=True)


def make_plain_timm(name: str, num_classes: int, settings: Mapping[str, Any]) -> nn.Module:
    """What ``timm.create_model`` makes of ``timm/NAME``, with its own classifier and without pretrained weights."""
    network: nn.Module = _import_timm(name).create_model(name.removeprefix(TIMM), num_classes=num_classes, **settings)
    return network


def make_timm(
    name: str, settings: Mapping[str, Any], image_size: tuple[int, int] | None, pretrained: bool
) -> TimmBackbone:
    """The model ``timm/NAME``. ``pretrained=False``: no weights are read, whatever the settings say."""
    timm = _import_timm(name)
    plain = name.removeprefix(TIMM)
    if "/" in plain or not timm.is_model(plain):
        near = nearest(plain, timm.list_models(), most=3, separators="")
        hint = f" Did you mean {' or '.join(f'{TIMM}{other}' for other in near)}?" if near else ""
        raise UserError(f"timm {timm.__version__} has no model '{plain}'.{hint} timm.list_models() lists them.")
    arguments = dict(settings)
    for key in OURS:
        if key in arguments:
            instead = ": name the file with 'pretrained'" if key == "checkpoint_path" else ", it is chosen here"
            raise UserError(f"'{key}' is no setting of '{name}'{instead}.")
    source = arguments.pop("pretrained", False)
    full_resolution = arguments.pop("full_resolution_stem", False)
    try:
        facts = timm.get_pretrained_cfg(plain)
    except RuntimeError as error:  # an unknown tag
        tags = ", ".join(timm.list_pretrained(f"{plain.split('.')[0]}.*")) or "none"
        raise UserError(f"'{name}': {error} There are: {tags}.") from error
    if image_size is not None and facts is not None and facts.fixed_input_size:
        arguments.setdefault("img_size", list(image_size))
    if source and pretrained:
        model = _create_pretrained(timm, name, source, arguments)
    else:
        model = _create(timm, name, arguments)
    if not hasattr(model, "forward_intermediates"):
        raise UserError(f"'{name}' ({type(model).__name__}) lacks forward_intermediates: timm cannot show its maps.")
    if full_resolution:
        _take_smaller_steps(model, name)
    own = model.pretrained_cfg
    return TimmBackbone(model, (list(own["mean"]), list(own["std"])) if source else None)


def _create(timm: Any, name: str, arguments: Mapping[str, Any], **more: Any) -> Any:
    try:
        return timm.create_model(name.removeprefix(TIMM), num_classes=0, **arguments, **more)
    except (TypeError, AssertionError, ValueError) as error:
        raise UserError(f"'{name}' cannot be made so: {first_line(error)}.") from error


def _create_pretrained(timm: Any, name: str, source: Any, arguments: dict[str, Any]) -> Any:
    """With weights from the hub (``source`` is true) or from a file."""
    overlay = dict(arguments.pop("pretrained_cfg_overlay", {}))
    if source is not True:
        overlay["file"] = str(source)
    state = torch.get_rng_state()
    drawn = _create(timm, name, {**arguments, "pretrained_cfg_overlay": overlay})
    torch.set_rng_state(state)
    try:
        model = _create(timm, name, {**arguments, "pretrained_cfg_overlay": overlay}, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # of the hub's, the network's, or the file's
        if "file" in overlay:
            raise UserError(
                f"The weights in '{overlay['file']}' cannot be loaded into '{name}': {first_line(error)}"
            ) from error
        hub = drawn.pretrained_cfg.get("hf_hub_id") or "the Hugging Face hub"
        raise UserError(
            f"The pretrained weights of '{name}' cannot be had from {hub}: {first_line(error)} Where there is no "
            "connection, bring the file model.safetensors of that page and name it: pretrained: FILE."
        ) from error
    _check_all_loaded(model, drawn, name, overlay.get("file", "the hub"))
    return model


def _check_all_loaded(model: nn.Module, drawn: nn.Module, name: str, place: str) -> None:
    """timm keeps what it drew where a file lacks a weight: what was drawn at random and still is so was not loaded.

    Some models draw what no file holds, so it takes half of all weights to call the file a wrong one.
    """
    pairs = zip(model.named_parameters(), drawn.parameters(), strict=True)
    random = [(key, weight, other) for (key, weight), other in pairs if other.numel() and other.min() < other.max()]
    missing = [key for key, weight, other in random if torch.equal(weight, other)]
    if len(missing) * 2 > len(random):
        raise UserError(
            f"The weights in '{place}' are not those of '{name}': of {len(random)} tensors it lacks {len(missing)}, "
            f"'{missing[0]}' the first."
        )


def _take_smaller_steps(model: nn.Module, name: str) -> None:
    """The first convolution steps by one pixel; the pooling of the stem goes."""
    convolutions = 0
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            convolutions += 1
            if convolutions == 1 and (module.stride != (2, 2) or module.kernel_size == module.stride):
                raise UserError(
                    f"full_resolution_stem is for a first convolution of overlapping windows and stride 2. That of "
                    f"'{name}' has a kernel of {module.kernel_size[0]} and stride {module.stride[0]}."
                )
            if convolutions == 1:
                module.stride = (1, 1)
        if isinstance(module, nn.MaxPool2d) and convolutions <= STEM_CONVOLUTIONS:
            model.set_submodule(path, nn.Identity())
            return


def names_in_timm() -> list[str]:
    """``timm/NAME`` of every model; none where timm cannot be imported."""
    try:
        return [f"{TIMM}{name}" for name in _import_timm("a suggestion").list_models()]
    except UserError:
        return []


def _import_timm(name: str) -> Any:
    with importing("timm", f"'{name}'"):
        import timm
        import timm.models
    return timm
