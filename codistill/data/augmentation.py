"""From the keys of the configuration to what the loader does with a batch."""

from collections.abc import Sequence
from typing import NamedTuple

from codistill.data.augment import Crop, PaddedCrop
from codistill.data.mixing import Mixing
from codistill.data.policy import Policy
from codistill.data.resized_crop import ResizedCrop


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
    """For images of (H, W) = ``size``; arguments as in ``codistill.config_data.AugmentConfig``, filled in."""
    cut: Crop = PaddedCrop(size, padding or 0, bool(flip))
    if crop == "resized":
        cut = ResizedCrop(size, scale, ratio, bool(flip))
    chosen = {"trivial": Policy("trivial", size), "rand": Policy("rand", size, operations, magnitude)}
    return Augmentation(cut, chosen.get(policy), Mixing(mixup, cutmix) if mixup or cutmix else None)
