"""What a network is to whoever only asks it, by whatever it runs: a function from pixels to logits."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Answer = Callable[[Floats], Floats]  # pixels in [0, 1] (B, 3, H, W) -> logits (B, K)
