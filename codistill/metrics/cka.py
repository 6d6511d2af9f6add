"""Linear CKA: how alike two representations of the same images are.

    CKA(X, Y) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),    K = X X^T,  L = Y Y^T

Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, arXiv:1905.00414. For stage maps,
too large to keep for all images, the HSICs are unbiased estimates that are averaged over batches: Nguyen, Raghu and
Kornblith, "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021, arXiv:2010.15327.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
FEWEST = 4  # images of which an unbiased HSIC can be estimated


def linear_cka(x: Floats, y: Floats) -> float:
    """Embeddings of the same n images, (n, D1) and (n, D2): 1 if equal up to rotation and scale, 0 if unrelated.

    With the mean over images subtracted, CKA = ||y^T x||_F^2 / (||x^T x||_F ||y^T y||_F). 0 where an embedding is
    constant. Gaussian noise of width D seen on n images gives about D / (n + D), not 0.
    """
    x, y = (one.astype(np.float64) for one in (x, y))
    x, y = (one - one[0] for one in (x, y))  # first, so that what is constant has no mean but 0, whatever is rounded
    x, y = (one - one.mean(axis=0) for one in (x, y))
    shared = np.square(y.T @ x).sum()
    own = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(shared / own) if own > 0 else 0.0


def unbiased_hsic(k: Floats, other: Floats) -> float:
    """HSIC_1 of two kernels (n, n) of the same n >= 4 images; for unrelated ones 0 in the mean, so at times below.

    With zeroed diagonals, [tr(K L) + 1^T K 1 1^T L 1 / ((n-1)(n-2)) - 2/(n-2) 1^T K L 1] / (n (n-3)): Song et al.,
    "Feature Selection via Dependence Maximization", JMLR 2012.
    """
    n = len(k)
    k, other = (one - np.diag(np.diag(one)) for one in (k.astype(np.float64), other.astype(np.float64)))
    rows, columns = k.sum(axis=0), other.sum(axis=1)
    traces = (k * other.T).sum() + rows.sum() * columns.sum() / ((n - 1) * (n - 2)) - 2 * rows @ columns / (n - 2)
    return float(traces / (n * (n - 3)))


class MinibatchCKA:
    """CKA of every layer with every other, over batches of images, each weighed by its images."""

    def __init__(self, layers: Sequence[str]) -> None:
        self.layers = list(layers)
        self.images = 0
        self._hsic = np.zeros((len(self.layers), len(self.layers)))

    def update(self, kernels: Mapping[str, Floats]) -> None:
        """The kernels (B, B) of all layers on one batch; one of fewer than 4 images is left out."""
        count = len(kernels[self.layers[0]])
        if count < FEWEST:
            return
        self.images += count
        for i, j in combinations_with_replacement(range(len(self.layers)), 2):
            self._hsic[i, j] += count * unbiased_hsic(kernels[self.layers[i]], kernels[self.layers[j]])
            self._hsic[j, i] = self._hsic[i, j]

    def matrix(self) -> Floats:
        """(L, L) in the order of ``layers``. NaN for a layer that is constant, or where no images were seen."""
        own = np.sqrt(np.maximum(np.diag(self._hsic), 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self._hsic / np.outer(own, own))
