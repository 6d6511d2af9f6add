"""The objective: one table of loss name -> weight. What is logged is what is optimised.

Keys are loss names or shell patterns (``"*/ce"``); the last matching key wins, so exceptions are written below
the rule. A key that weighs nothing and a loss that no key weighs are errors: neither can go unnoticed.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from codistill.errors import UserError, unknown
from codistill.errors.nearest import nearest


@dataclass(frozen=True)
class Ramp:
    """A weight that grows to ``weight`` over the first ``over`` of training, then stays.

    w(t) = weight * exp(-5 (1 - min(t / over, 1))^2), with t the fraction of training done: the sigmoid-shaped
    ramp-up of Laine and Aila (ICLR 2017, arXiv:1610.02242).

    >>> ramp = Ramp(2.0, over=0.5)
    >>> [round(ramp.at(progress), 3) for progress in (0.0, 0.25, 0.5, 1.0)]
    [0.013, 0.573, 2.0, 2.0]
    """

    weight: float
    over: float

    def __post_init__(self) -> None:
        if not (0 <= self.weight < math.inf and 0 <= self.over <= 1):
            raise UserError(
                "A ramp goes to a weight from 0 up over a share of training from 0 to 1, got "
                f"weight {self.weight} over {self.over}."
            )

    def at(self, progress: float) -> float:
        remaining = 0.0 if self.over <= 0 else 1.0 - min(progress / self.over, 1.0)
        return self.weight * math.exp(-5.0 * remaining**2)


Weight = float | Ramp


class Objective:
    """The weighted sum of a cohort's named losses.

    >>> objective = Objective({"*/ce": 1.0, "*/peers_kl": Ramp(1.0, over=0.3), "b/ce": 0.5})
    >>> objective.table(["a/ce", "b/ce", "a/peers_kl"])
    {'a/ce': 1.0, 'a/peers_kl': Ramp(weight=1.0, over=0.3), 'b/ce': 0.5}
    >>> objective({"a/ce": torch.tensor(2.0), "b/ce": torch.tensor(4.0), "a/peers_kl": torch.tensor(1.0)}, progress=1.0)
    tensor(5.)
    """

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self.weights = dict(weights)
        self._checked: list[str] = []  # names of losses that this table was held against
        self._sent: tuple[list[float], Tensor] = ([], torch.empty(0))  # the last values and their copy on the device

    def table(self, names: Iterable[str]) -> dict[str, Weight]:
        """The weight of each loss in ``names``, sorted by name.

        Raises UserError for a loss that nothing weighs, and for a key that matches no loss.
        """
        names = sorted(names)
        for key in self.weights:
            if not any(fnmatchcase(name, key) for name in names):
                near = nearest(key, names, most=len(names))
                lasts = {name.rpartition("/")[2] for name in near}
                raise unknown("loss in weights", key, names, near if len(near) < 2 else [f"*/{last}" for last in lasts])
        return {name: self._weight_of(name) for name in names}

    def check_heard(self, keys: Iterable[str], names: Iterable[str]) -> None:
        """Raises UserError for the first of ``keys`` that sets no weight: later ones match all losses it matches."""
        names = list(names)
        heard = {self._key_of(name) for name in names}
        for key in keys:
            if key not in heard:
                others = sorted({str(self._key_of(name)) for name in names if fnmatchcase(name, key)})
                raise UserError(
                    f"'{key}' in weights changes nothing: {' and '.join(map(repr, others))} below it matches the same "
                    "losses, and the last match wins. Write exceptions below the rule."
                )

    def at(self, names: Iterable[str], progress: float) -> dict[str, float]:
        """What each loss in ``names`` weighs when this fraction of training is done."""
        return {name: self._at(self._weight_of(name), progress) for name in names}

    def __call__(self, losses: Mapping[str, Tensor], progress: float = 1.0) -> Tensor:
        """The scalar to minimise; ``progress`` is the fraction of training done, in [0, 1].

        Losses are summed in the order of their names, so the order of either table changes nothing, and
        zero weights multiply: a switched-off loss stays in the graph, which therefore stays static. Raises UserError
        as ``table`` does.
        """
        names = sorted(losses)
        if names != self._checked:
            self.table(names)
            self._checked = names
        values = [self._at(self._weight_of(name), progress) for name in names]
        stacked = torch.stack([losses[name] for name in names])
        return (stacked * self._on_device(values, stacked)).sum()

    def _on_device(self, values: list[float], like: Tensor) -> Tensor:
        """``values`` as a tensor like another one. Sent only when they change: a copy would wait for a GPU's work."""
        sent, there = self._sent
        if values != sent or there.device != like.device or there.dtype != like.dtype:
            there = torch.tensor(values, dtype=like.dtype, pin_memory=like.is_cuda).to(like.device, non_blocking=True)
            self._sent = (values, there)
        return there

    def _weight_of(self, name: str) -> Weight:
        key = self._key_of(name)
        if key is None:
            raise UserError(f"No weight for loss '{name}'. Weighted: {', '.join(self.weights) or 'none'}.")
        return self.weights[key]

    def _key_of(self, name: str) -> str | None:
        return next((key for key in reversed(self.weights) if fnmatchcase(name, key)), None)

    @staticmethod
    def _at(weight: Weight, progress: float) -> float:
        return weight.at(progress) if isinstance(weight, Ramp) else weight
