"""Linear probe: how much of the classes a linear classifier can read off frozen embeddings.

Alain and Bengio, "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644. Ours is trained
on one half of the images that are analysed and tested on the other, and the other way round, so that every image is
answered once by a probe that never saw it. None of them was trained on, which is the point: embeddings of training
images are cleaner than any the student will meet, and a probe fitted to them says little more than the student's own
classifier. Deviation: most papers fit the probe to the training split.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

STEPS = 300  # of L-BFGS; more changes no digit that is shown


def linear_probe(embeddings: NDArray[np.floating], labels: NDArray[np.integer]) -> float | None:
    """Embeddings (n, D) of images with labels (n,) -> the share of images that the probe answers rightly.

    Multinomial logistic regression with an L2 penalty of 1 on standardised embeddings. None where a half would have
    images of fewer than two classes, or an embedding is not finite.
    """
    second = halves(labels, seed=0)
    if not np.isfinite(embeddings).all() or any(len(np.unique(labels[half])) < 2 for half in (second, ~second)):
        return None
    right = 0
    for trained, tested in ((~second, second), (second, ~second)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=STEPS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(embeddings[trained].astype(np.float64), labels[trained])
        right += int((probe.predict(embeddings[tested].astype(np.float64)) == labels[tested]).sum())
    return right / len(labels)


def halves(labels: NDArray[np.integer], seed: int) -> NDArray[np.bool_]:
    """Which images (n,) are in the second half: of each class every other one, in a random order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    second = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        second[order[labels[order] == label][1::2]] = True
    return second
