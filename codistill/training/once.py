"""What is said before training is said once in a run's life, however often it is gone on with."""

from collections.abc import Callable


class Once:
    """Hands texts on that were not told before. ``told``: what they were about; part of a checkpoint."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, how: Callable[[str], None], text: str, about: str | None = None) -> None:
        """about: what is told once whatever the words; None for the words themselves."""
        if (about or text) not in self.told:
            self.told.append(about or text)
            how(text)
