"""Distill losses: one per file, a pure function and its thin class."""

from codistill.core.losses.base import Distill
from codistill.core.losses.kl import KL

__all__ = ["KL", "Distill"]
