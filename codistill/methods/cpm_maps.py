"""Where the CPM looks, and what of its answer comes from whom: for people, not for training.

With q and k of the module's attention (``codistill.methods.cpm``), for student i and position p:

    attention_i(p)    = mean over heads and asking positions of softmax(q k_i^T / sqrt(d / heads))   at p
    contribution_i(p) = ||W_i mixed_i(p)|| / sum_j ||W_j mixed_j(p)||

The pointwise convolution sums what it makes of each student's share of the channels, W_i mixed_i, so these are exactly
the parts of which the fused map is made, before its normalisation.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from codistill.core.student import StudentOutput
from codistill.methods.cpm import Branch, CollaborativeProcessing


class CpmMaps(NamedTuple):
    """Of each student, on the module's grid."""

    attention: dict[str, Tensor]  # (B, H, W) sums to 1 over positions
    contribution: dict[str, Tensor]  # (B, H, W) sums to 1 over students
    trust: dict[str, float]  # the students' reliability, 1 for the best


def attention_weights(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """What ``cpm.attend`` weighs its values by: (B, P, d) each -> (B, heads, P asking, P asked)."""
    query, key = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key))
    return (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(dim=-1)


def cpm_maps(cpm: CollaborativeProcessing, outputs: Mapping[str, StudentOutput]) -> CpmMaps:
    """The maps of B images, of which the students said ``outputs``."""
    tokens, seen, trust, mixed = cpm.mix(outputs)
    attention = {}
    for name, asked in zip(cpm.students, seen, strict=True):
        key, _ = cast(Branch, cpm.branches[name]).key_value(tokens[name]).chunk(2, dim=-1)
        attention[name] = attention_weights(asked, key, cpm.heads).mean(dim=(1, 2)).unflatten(-1, cpm.grid)
    weight = cast(nn.Conv2d, cpm.pointwise[0]).weight.flatten(1)  # (d, N * d)
    parts = zip(mixed.split(cpm.width, dim=1), weight.split(cpm.width, dim=1), strict=True)
    norms = torch.stack([torch.einsum("oc,bchw->bohw", own, part).norm(dim=1) for part, own in parts])
    shares = norms / norms.sum(dim=0).clamp_min(torch.finfo(norms.dtype).tiny)
    return CpmMaps(
        attention,
        dict(zip(cpm.students, shares, strict=True)),
        dict(zip(cpm.students, trust.tolist(), strict=True)),
    )
