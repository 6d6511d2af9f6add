"""Backbones by name."""

from collections.abc import Callable
from functools import partial

from torch import nn

from codistill.models.cifar_resnet import DEPTHS, CifarResNet

MODELS: dict[str, Callable[[], nn.Module]] = {f"resnet{depth}": partial(CifarResNet, depth) for depth in DEPTHS}

__all__ = ["MODELS", "CifarResNet"]
