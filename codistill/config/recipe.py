"""From a recipe file and ``key=value`` overrides to a configuration."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codistill.config.schema import METHOD, RunConfig, make_config
from codistill.errors import UserError
from codistill.errors.nearest import did_you_mean, similar_path
from codistill.storage.run_files import of_today
from codistill.storage.yaml import read_yaml


def load_config(recipe: Path | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """A recipe with overrides ``key=value`` (values are YAML). Raises UserError for whatever cannot be understood."""
    given: dict[str, Any] = {}
    if recipe is not None:
        if os.path.isdir(recipe):
            meant = recipe / "config.yaml" if (recipe / "config.yaml").exists() else f"data={recipe}"
            raise UserError(f"Recipe '{recipe}' is a folder, not a YAML file. Did you mean {shlex.quote(str(meant))}?")
        given = read_recipe(recipe)
    changes = read_overrides(overrides)
    if not {"epochs", "batch_size"}.isdisjoint(changes):
        given.pop("replanned", None)  # of a run that was resumed, and of its steps
    return make_config(merged(given, changes))


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``key=value`` arguments, with values read as YAML. A key that is given again moves to the end."""
    read: dict[str, Any] = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not all(key.split(".")):
            raise UserError(f"'{override}' is not of the form key=value. A recipe comes first, before all keys.")
        if key != key.strip():
            raise UserError(f"'{override}' has a space beside its key. Write {key.strip()}={value.strip()}.")
        if not value.strip():  # an unset variable of a shell script, most likely
            raise UserError(f"'{override}' has no value. Give one, or leave the key out; null stands for no value.")
        try:
            read.pop(key, None)
            read[key] = read_yaml(value)
        except ValueError as error:
            raise UserError(
                f"'{override}': the value is not valid YAML: {error}. Quote the whole argument if it holds spaces."
            ) from error
    return read


def merged(given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and values, changed as on the command line: ``optimizer.lr`` is a nested key, ``method`` starts over."""
    given = dict(given)
    for key, value in changes.items():
        _set(given, str(key).split("."), value)
    return given


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys and values of a recipe file as they are, or of a run's config.yaml. Raises UserError."""
    if not os.path.isfile(path):  # which, unlike Path.is_file, takes names of any length
        if os.path.isdir(path):
            raise UserError(f"Recipe '{path}' is a folder, not a YAML file.")
        raise UserError(f"Recipe '{path}' does not exist.{did_you_mean(similar_path(path, os.path.isfile))}")
    try:
        given = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Recipe '{path}' cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"Recipe '{path}' is not text in UTF-8. Save it as UTF-8.") from error
    except ValueError as error:
        raise UserError(f"Recipe '{path}' is not valid YAML: {error}.") from error
    if given is None:  # an empty file: all defaults
        return {}
    if not isinstance(given, dict):
        raise UserError(f"Recipe '{path}' should hold keys and values, holds a {type(given).__name__}.")
    is_of_a_run = (path.parent / "metrics.jsonl").exists() and path.name == "config.yaml"
    return of_today(given) if is_of_a_run else given


def _set(given: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a nested key. ``data=X`` sets data.name alone; ``method=X`` starts over, for settings belong to a method."""
    head, *rest = path
    if head == "students":  # those of a recipe that left their number open
        given.pop("peers", None)
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
