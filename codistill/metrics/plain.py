"""Numbers as JSON can hold them."""

import math


def plain(value: float | None, digits: int) -> float | None:
    """Rounded; None where there is no such number. Rounding hides in which order a sum was taken."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)
