"""Attention transfer: two feature maps should be active in the same places.

    A(F)      = mean over channels of F^2                            where F is active: (B, H * W), one row per image
    AT(a, b)  = mean over images and positions of (A(a) / |A(a)| - A(b) / |A(b)|)^2

|.| is the Euclidean norm over positions. The mean over positions is that of the public codes; the paper has a sum.

Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv:1612.03928.
Deviation: maps of different grids are compared on the smaller one, to which their activity is averaged.
"""

import torch.nn.functional as F
from torch import Tensor


def attention_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A(a) and A(b), not normalised, on the smaller of the two grids.

    Shapes: a (B, C, H, W), b (B, C', H', W') -> (B, P) each, with P = min(H, H') * min(W, W').
    """
    grid = (min(a.shape[-2], b.shape[-2]), min(a.shape[-1], b.shape[-1]))
    rows_a, rows_b = (
        F.adaptive_avg_pool2d(feature_map.float().pow(2).mean(dim=1, keepdim=True), grid).flatten(1)
        for feature_map in (a, b)
    )
    return rows_a, rows_b


def attention_distance(learner: Tensor, target: Tensor) -> Tensor:
    """AT above, a scalar in [0, 4 / P]. Shapes: (B, C, H, W) and (B, C', H', W'), channels and grids of any size."""
    rows, wanted = attention_rows(learner, target)
    return (F.normalize(rows, dim=1) - F.normalize(wanted, dim=1)).pow(2).mean()
