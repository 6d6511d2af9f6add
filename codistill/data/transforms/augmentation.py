"""From the keys ``augment`` of the configuration to arguments of the training loader."""

from collections.abc import Sequence
from typing import NamedTuple

from codistill.data.transforms.crop import Crop, PaddedCrop
from codistill.data.transforms.mixup import Mixing
from codistill.data.transforms.policy import Policy
from codistill.data.transforms.resized_crop import ResizedCrop


class Augmentation(NamedTuple):
    """Arguments of ``TrainLoader``."""

    crop: Crop
    policy: Policy | None
    mixing: Mixing | None


def augmentation(
    size: tuple[int, int],
    *,
    crop: str,
    padding: int | None,
    scale: Sequence[float],
    ratio: Sequence[float],
    flip: bool | None,
    policy: str,
    operations: int,
    magnitude: int,
    mixup: float,
    cutmix: float,
) -> Augmentation:
    """For images of (H, W) = ``size``; arguments as in ``codistill.config.data.AugmentConfig``, filled in."""
    if crop == "resized":
        cut: Crop = ResizedCrop(size, scale, ratio, bool(flip))
    else:
        cut = PaddedCrop(size, padding or 0, bool(flip))
    chosen = None
    if policy == "trivial":
        chosen = Policy(policy, size)
    elif policy == "rand":
        chosen = Policy(policy, size, operations, magnitude)
    return Augmentation(cut, chosen, Mixing(mixup, cutmix) if mixup or cutmix else None)
