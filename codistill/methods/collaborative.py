"""Collaborative learning with a different auxiliary task for each student (Mo et al., SSRN 5217092, 2026).

    L = sum_i CE(z_i, y) + CE(z_t, y) + sum_i lambda_i * L_task_i
      + w(t) * [ sum_i KL(i <- t) + sum_i mean_{j != i} r_j KL(i <- j) + sum_i r_i KL(t <- i) ]

t is the Collaborative Processing Module (``codistill.methods.cpm``), r the students' reliability
(``codistill.methods.reliability``), w(t) = exp(-5 (1 - min(t / ramp, 1))^2). For two students these are six links,
each with its own name in the table of weights: ``a/cpm_kl``, ``b/cpm_kl``, ``a/peers_kl``, ``b/peers_kl``,
``cpm/a_kl``, ``cpm/b_kl``.

The tasks are chosen beside the method, one or more per student. Only the paper's abstract is public: the losses and
settings start from the closest public designs, and every choice of ours is an argument. Chosen by
measurement, though neither is decided: the same strong task for all, and trust that falls by exp(-4) per nat of
cross-entropy (docs/results.md).
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from codistill.core.losses import KL
from codistill.core.method import Lesson, Method
from codistill.core.objective import Ramp, Weight
from codistill.core.student import StudentShape
from codistill.core.views import CLEAN, QUARTER_TURNS
from codistill.errors import UserError
from codistill.methods.cpm import CollaborativeProcessing
from codistill.methods.peer_teachers import Listen, everybody_else
from codistill.methods.reliability import Reliability
from codistill.methods.settings import Share


def collaborative(
    shapes: Mapping[str, StudentShape],
    *,
    temperature: PositiveFloat = 3.0,
    ramp: Share = 0.27,
    train_students: bool = True,
    reliability: NonNegativeFloat = 4.0,
    width: PositiveInt | None = None,
    heads: PositiveInt = 4,
    mlp_ratio: PositiveFloat = 1.0,
    grid: PositiveInt | None = 2,
    teach_on: Literal["clean", "turns"] = "clean",
) -> Method:
    """What students learn from their tasks, fused by the CPM into a teacher for all (SSRN 5217092).

    temperature: of every KL. ramp: fraction of training over which the links grow to full weight.
    train_students: the CPM's own losses train the students too. reliability: how fast a student that falls behind
    loses its say, per nat of cross-entropy; 0 trusts all alike. width, heads, mlp_ratio: of the CPM. grid: positions on
    a side of the map that the CPM works on, at most; None for all of the smallest last map. teach_on: hold all lessons,
    and train the CPM, on the upright images only or on all four quarter turns (as HSSAKD does), which every student
    then sees.
    """
    trust = Reliability(list(shapes), sharpness=reliability)
    cpm = CollaborativeProcessing(
        shapes,
        width=width,
        heads=heads,
        mlp_ratio=mlp_ratio,
        grid=grid,
        train_students=train_students,
        reliability=trust,
    )
    kl = KL(temperature)
    views = QUARTER_TURNS if teach_on == "turns" else (CLEAN,)
    lessons = {
        "reliability": Lesson(trust, {}),
        "cpm": Lesson(cpm, {"kl": kl}, views),
        "peers": Lesson(Listen(everybody_else(list(shapes)), trust), {"kl": kl}, views),
    }
    weights: dict[str, Weight] = {"*/ce": 1.0, "*/cpm_kl": Ramp(1.0, over=ramp), "*/peers_kl": Ramp(1.0, over=ramp)}
    for name in shapes:
        if name in lessons:
            raise UserError(f"The student name '{name}' is taken by a part of this method. Name the student otherwise.")
        # One lesson per student, so that each of these links too has a weight of its own.
        lessons[name] = Lesson(Listen({"cpm": [name]}, trust), {"kl": kl}, views)
        weights[f"cpm/{name}_kl"] = Ramp(1.0, over=ramp)
    return Method(lessons, weights)
