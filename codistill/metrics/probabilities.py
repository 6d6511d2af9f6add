"""From logits to what everybody believes: logarithms of probabilities, which lose nothing where they are tiny."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def log_softmax(logits: Floats) -> Floats:
    """Logits (n, K) -> log-probabilities (n, K), in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def ensemble(members: Sequence[Floats]) -> Floats:
    """The log of the mean over members of their probabilities; log-probabilities (n, K) each -> (n, K)."""
    return np.asarray(np.logaddexp.reduce(np.stack(members)) - np.log(len(members)))
