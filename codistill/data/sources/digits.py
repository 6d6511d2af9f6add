"""``digits``: 1,797 real handwritten digits of 8x8 pixels that come with scikit-learn. No download.

E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998: the part
written by 13 people who are not in UCI's own training part. scikit-learn does not say who wrote which image, so the
third held out for testing is drawn at random, with a fixed seed: train and test share writers.
"""

import numpy as np
import torch
from torch import Tensor

from codistill.data.images import resize as resized
from codistill.data.rows import Rows, stratified_split
from codistill.data.sources.base import Source

TEST_FRACTION = 1 / 3
TEST_SEED = 0


class Digits(Source):
    """The embedded data set."""

    flip = False
    splits = ("train", "test")
    class_names = tuple("0123456789")

    def __init__(self) -> None:
        from sklearn.datasets import load_digits  # imported here: it takes a second, and other data does not need it

        digits = load_digits()
        grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (n, 8, 8), 16 is full ink
        self._pixels = torch.from_numpy(np.repeat(grey[..., None], 3, axis=-1))
        self._labels = digits.target.astype(np.int64)
        train, test = stratified_split(self._labels, TEST_FRACTION, TEST_SEED)
        self._rows = {"train": train, "test": test}

    def labels(self, split: str) -> Rows:
        return self._labels[self._rows[split]]

    def pixels(self, split: str, rows: Rows, image_size: int | None, resize: str = "squash") -> Tensor:
        pixels = self._pixels[torch.from_numpy(self._rows[split][rows])]
        return pixels if image_size is None else resized(pixels, image_size)
