"""Students alone: the control.

    L = sum_i CE(z_i, y) + sum_i lambda_i * L_task_i

Same data, same tasks, same steps, and nobody teaches anybody.
"""

from collections.abc import Mapping

from codistill.core.method import Method
from codistill.core.student import StudentShape


def independent(shapes: Mapping[str, StudentShape]) -> Method:
    """Students alone, side by side: the control for every other method."""
    return Method(lessons={}, weights={"*/ce": 1.0})
