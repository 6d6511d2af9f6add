"""Distill losses: one per file, a pure function and its thin class."""

from codistill.distill.distill import Distill
from codistill.distill.kl import KL

__all__ = ["KL", "Distill"]
