"""Effective rank: in how many directions embeddings spread.

    erank(X) = exp(H(p)),    p_k = sigma_k / sum_j sigma_j,    H(p) = -sum_k p_k log p_k

with the singular values sigma of X. Roy and Vetterli, "The effective rank: a measure of effective dimensionality",
EUSIPCO 2007; for embeddings: RankMe, arXiv:2210.02885. As there, the mean is not subtracted: embeddings that became
one point plus noise then have an effective rank near 1, and not that of the noise.
"""

import numpy as np
from numpy.typing import NDArray


def effective_rank(embeddings: NDArray[np.floating]) -> float:
    """Embeddings (n, D) -> a number from 1 to min(n, D); 0 if all are zero, NaN if one is not finite."""
    if not np.isfinite(embeddings).all():
        return float("nan")
    sigma = np.linalg.svd(embeddings.astype(np.float64), compute_uv=False)
    if sigma.sum() == 0:
        return 0.0
    shares = sigma[sigma > 0] / sigma.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
