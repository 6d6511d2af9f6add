"""The contrast that supervised contrastive learning, SimCLR and mutual contrastive learning share.

For anchors a among n things that are compared, with P(a) the others of a's class:

    C = mean over a with P(a) not empty of  -1/|P(a)| sum_{p in P(a)} log( exp(s_ap) / sum_{b != a} exp(s_ab) )
"""

import torch
from torch import Tensor


def contrast(similarity: Tensor, labels: Tensor) -> Tensor:
    """C of similarities (n, n), already divided by their temperature, of anchors (rows) with others; labels (n,).

    A scalar, zero if nobody shares a class with another.
    """
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    log_probability = without_diagonal(similarity).log_softmax(dim=1)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    positives = positive.sum(dim=1)  # |P(a)|
    per_anchor = -torch.where(positive, log_probability, 0.0).sum(dim=1) / positives.clamp(min=1)
    return per_anchor.sum() / (positives > 0).sum().clamp(min=1)


def without_diagonal(similarity: Tensor) -> Tensor:
    """(..., n, n) with a diagonal whose softmax is zero. Finite, as one alone has nothing else to compare."""
    itself = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return similarity.masked_fill(itself, -1e6)
