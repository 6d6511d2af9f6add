"""``synthetic``: random pixels of any size, 100 balanced classes. For timing only: there is nothing to learn."""

import numpy as np
import torch
from torch import Tensor

from codistill.data.rows import Rows
from codistill.data.sources.base import Source

SIZES = {"train": 2560, "test": 500}
CLASSES = 100
DEFAULT_SIZE = 32


class Synthetic(Source):
    """Noise, the same at each reading. ``data.image_size`` sets its size, ``data.classes`` how many classes."""

    splits = ("train", "test")
    class_names = tuple(f"class {number}" for number in range(CLASSES))

    def labels(self, split: str) -> Rows:
        return np.arange(SIZES[split]) % CLASSES

    def pixels(self, split: str, rows: Rows, image_size: int | None, resize: str = "squash") -> Tensor:
        size = image_size or DEFAULT_SIZE
        first = int(rows[0]) if len(rows) else 0  # other rows, other pixels: held-out images are not those of train
        generator = torch.Generator().manual_seed(self.splits.index(split) + len(self.splits) * first)
        return torch.randint(0, 256, (len(rows), size, size, 3), dtype=torch.uint8, generator=generator)
