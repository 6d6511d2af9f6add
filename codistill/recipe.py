"""From a recipe file and ``key=value`` overrides to a configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from codistill.config import METHOD, RunConfig, make_config
from codistill.errors import UserError


def load_config(recipe: Path | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """A recipe with overrides ``key=value`` (values are YAML). Raises UserError for whatever cannot be understood."""
    given: dict[str, Any] = {}
    if recipe is not None:
        given = _read_recipe(recipe)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise UserError(f"'{override}' is not of the form key=value. A recipe comes first, before all keys.")
        try:
            _set(given, key.split("."), yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise UserError(
                f"'{override}': the value is not valid YAML. Quote the whole argument if it holds spaces."
            ) from error
    return make_config(given)


def _read_recipe(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"Recipe '{path}' does not exist.")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"Recipe '{path}' is not valid YAML: {error}") from error
    if not isinstance(given, dict):
        raise UserError(f"Recipe '{path}' should hold keys and values, holds a {type(given).__name__}.")
    return given


def _set(given: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a nested key. ``data=X`` sets data.name alone; ``method=X`` starts over, for settings belong to a method."""
    head, *rest = path
    if not rest:
        if head == "data" and isinstance(value, str) and isinstance(given.get(head), dict):
            given[head] = {**given[head], "name": value}
        else:
            given[head] = value
        return
    inner = given.get(head)
    if inner is not None and not isinstance(inner, (str, dict)):
        raise UserError(f"{head} is {inner!r}: it has no keys, so '{head}.{'.'.join(rest)}' cannot be set.")
    given[head] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
    if head == "method":
        given[head].setdefault("name", METHOD)
    if head == "weights":  # a loss name may hold dots
        rest = [".".join(rest)]
    _set(given[head], rest, value)
