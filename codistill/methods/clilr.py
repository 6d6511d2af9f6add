"""Collaborative learning: heads on a shared trunk, each taught by the consensus of the others (CL-ILR).

    t_i = mean over j != i of z_j
    L   = sum_i [ beta * CE(z_i, y) + (1 - beta) * w(t) * KL(i <- t_i) ]

beta = 0.5, T = 2; w(t) = exp(-5 (1 - min(t / ramp, 1))^2) if there is a ramp, else 1. Logits are averaged, before the
softmax. The gradient that the N heads send into the trunk is divided by N, so that the trunk learns at the pace of a
single network's ("backpropagation rescaling").

Source: Song and Chai, "Collaborative Learning for Deep Neural Networks" (NeurIPS 2018, arXiv:1805.11761). We know of no
code by the authors. All reimplementations that we read average logits, most with this beta and T; they differ in the
factor T^2 and in detaching.

Deviation: one split, before the last stage, where the paper also splits several times, as a tree.
Deviation: KL in place of the cross-entropy with soft labels. The gradients are the same as long as targets are
detached; the values differ by the entropy of the target.
"""

from collections.abc import Mapping

from pydantic import PositiveFloat

from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp
from codistill.core.student import StudentShape
from codistill.methods.peer_teachers import MeanLogits, everybody_else
from codistill.methods.settings import Share


def clilr(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 2.0,
    beta: Share = 0.5,
    ramp: Share = 0.0,
    shared_trunk: bool = True,
    rescale_gradient: bool = True,
    through_target: bool = False,
    temperature_squared: bool = True,
) -> Method:
    """Collaborative learning: heads of one trunk learn from the others' mean logits (NeurIPS 2018, arXiv:1805.11761).

    temperature: of the KL. beta: weight of the labels; the consensus weighs 1 - beta. ramp: fraction of training over
    which the consensus grows to that weight; 0 is none. shared_trunk: students share all but their last stage; False
    gives each a network of its own, of any architecture. rescale_gradient: divide the gradient at the split by the
    number of students; without a shared trunk it does nothing. through_target: a KL also trains the heads that it
    takes its target from. temperature_squared: the KL carries the factor T^2.
    """
    soft = (1.0 - beta) if temperature_squared else (1.0 - beta) / temperature**2
    consensus = MeanLogits(everybody_else(list(shapes)))
    return Method(
        lessons={"consensus": Lesson(consensus, {"kl": KL(temperature)}, through_target=through_target)},
        weights={"*/ce": beta, "*/consensus_kl": Ramp(soft, over=ramp)},
        shared_trunk=shared_trunk,
        trunk_gradient=1.0 / len(shapes) if shared_trunk and rescale_gradient else 1.0,
    )
