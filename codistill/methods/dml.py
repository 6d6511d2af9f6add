"""Deep mutual learning (Zhang et al., CVPR 2018, arXiv:1706.00384).

    L_i = CE(z_i, y) + w(t) * mean over j != i of KL(i <- j)

The paper has T = 1 and no ramp. Each target is detached: a student is not trained to be easy to imitate.
Deviation: all students are updated at once, from one forward pass each, where the paper updates them in turn.
"""

from collections.abc import Mapping

from pydantic import PositiveFloat

from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp
from codistill.core.student import StudentShape
from codistill.methods.peer_teachers import Listen, everybody_else
from codistill.methods.settings import Share


def dml(shapes: Mapping[str, StudentShape], *, temperature: PositiveFloat = 1.0, ramp: Share = 0.0) -> Method:
    """Deep mutual learning: everybody imitates the others' predictions (CVPR 2018, arXiv:1706.00384).

    temperature: of the KL. ramp: fraction of training over which the links grow to full weight; 0 is none.
    """
    return Method(
        lessons={"peers": Lesson(Listen(everybody_else(list(shapes))), {"kl": KL(temperature)})},
        weights={"*/ce": 1.0, "*/peers_kl": Ramp(1.0, over=ramp)},
    )
