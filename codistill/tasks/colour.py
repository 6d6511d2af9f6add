"""Joint label of class and order of the colour channels, on the last stage or on every stage (SLA, ICML 2020).

Each image is seen with its channels in P orders, p = 0 being red, green, blue. Heads classify the pair (class y,
order p) as one of P K joint labels:

    joint label = P y + p
    loss        = sum over heads of the cross-entropy, mean over the P B images

P = 6 takes all orders, P = 3 the cyclic ones. On grey images all orders look alike, and the task asks for the
impossible.

Sources: Lee et al., arXiv:1910.05872 (joint label, both sets of orders); arXiv:2107.13715 and 2109.03075 (a head on
every stage, there for turns). Deviation: the blocks of the early stages are those of ``rotation``.
"""

from typing import Literal

from codistill.core.student import StudentShape
from codistill.core.views import COLOURS
from codistill.tasks.rotation import JointLabel


class Colour(JointLabel):
    """Joint label of class and channel order.

    orders: 3 for the cyclic orders of red, green and blue (two more looks at each image), 6 for all (five more).
    hierarchical: heads on every stage (True) or on the embedding only (False).
    """

    def __init__(self, shape: StudentShape, *, orders: Literal[3, 6] = 3, hierarchical: bool = True) -> None:
        super().__init__(shape, COLOURS[orders], hierarchical)
