"""Numbers with their noun: ``1 epoch``, ``2,300 steps``."""


def counted(number: float, noun: str) -> str:
    """``number``, to whole ones, and ``noun`` in the form that goes with it.

    >>> counted(1, "epoch"), counted(2300, "step")
    ('1 epoch', '2,300 steps')
    """
    words = f"{number:,.0f}"
    return f"{words} {noun}{'' if words == '1' else 's'}"
