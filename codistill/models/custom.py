"""A user's own backbone: ``my_package.nets:make`` names a class or function, called with the settings.

What it returns has the feature interface of timm that ``codistill.core.student`` describes. A network of stages gets it
from ``Staged``. Like any import this runs the code of that module.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from codistill.errors import UserError

INTERFACE = ("forward_intermediates", "forward_head", "head_hidden_size")


def make_own(name: str, settings: Mapping[str, Any]) -> nn.Module:
    """The backbone that the factory ``name``, ``module:function``, makes. Raises UserError where it makes none."""
    make = _find(name)
    try:
        inspect.signature(make).bind(**settings)
    except TypeError as error:
        raise UserError(f"Model '{name}' does not take these settings: {error}.") from error
    except ValueError:
        pass  # a class of C has no signature
    made = make(**settings)
    if not isinstance(made, nn.Module):
        raise UserError(f"Model '{name}' should make a torch.nn.Module, made a {type(made).__name__}.")
    if missing := [part for part in INTERFACE if not hasattr(made, part)]:
        raise UserError(
            f"Model '{name}' makes a {type(made).__name__} that lacks {', '.join(missing)}: a backbone has timm's "
            "feature interface. Hand its stages to codistill.models.Staged(stage1, stage2, ..., width=channels) to get "
            "one, or see docs/models.md."
        )
    return made


def _find(name: str) -> Any:
    module_name, _, path = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last, so that a file here hides no installed package
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # the module may do anything
        meant = f" A student's name takes a space after the colon: {{{module_name}: {path}}}." * ("." not in name)
        raise UserError(
            f"Model '{name}': module '{module_name}' cannot be imported: {error}. It should be installed, or lie in "
            f"the folder that you start from.{meant}"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise UserError(f"Model '{name}': '{module_name}' has no '{path}'.")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"Model '{name}' should be a class or a function, is a {type(found).__name__}.")
    return found
