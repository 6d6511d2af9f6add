"""Weights from a file into a module: what does not fit is said by name."""

from collections.abc import Callable

from torch import Tensor, nn

from codistill.errors import UserError

SHOWN = 2  # of each kind of difference


def as_it_is(tensor: Tensor, like: Tensor) -> Tensor:
    """For modules that hold whole tensors."""
    return tensor


def load_weights(
    module: nn.Module,
    weights: dict[str, Tensor],
    place: str,
    made_by: str,
    fit: Callable[[Tensor, Tensor], Tensor] = as_it_is,
) -> None:
    """Load weights from the file ``place`` into what ``made_by`` built. Raises UserError for any difference.

    ``fit``: given a whole tensor and the one that it is for, what to load.
    """
    expected = module.state_dict()
    shapes = [
        f"'{name}' is {tuple(weights[name].shape)} there, {tuple(tensor.shape)} here"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    kinds = {
        "other shapes": shapes,
        "missing": [f"'{name}'" for name in expected if name not in weights],
        "unexpected": [f"'{name}'" for name in weights if name not in expected],
    }
    found = [f"{kind}: {_few(names)}" for kind, names in kinds.items() if names]
    if found:
        raise UserError(f"The weights in '{place}' do not fit {made_by}: {'. '.join(found)}.")
    module.load_state_dict({name: fit(tensor, expected[name]) for name, tensor in weights.items()})


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
