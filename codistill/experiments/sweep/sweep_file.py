"""A sweep file: what it may hold, and the runs that it asks for.

    base: ../cifar100_resnet32.yaml    # a recipe, relative to this file; or keys of a recipe
    rows:                              # what each row changes; most valuable first
      independent: {method: independent, tasks: none}
      dml: {method: dml, tasks: none, method.temperature: 3, seeds: 5}
    grid:                              # instead of rows, or within each: every combination
      optimizer.lr: [0.05, 0.1]
      tasks: {none: none, rotation: [rotation, none]}   # values that are no plain word need names
    seeds: 3                           # 0, 1, 2; or a list

What a grid sets, neither its rows nor the command line may set. Runs are named ROW-seedN. All rows come with their
first seed before any comes with its second.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codistill.config.recipe import merged, read_recipe
from codistill.config.schema import RunConfig, make_config
from codistill.errors import UserError, unknown

KEYS = ("base", "rows", "grid", "seeds")
_NAME = re.compile(r"[\w.+-]+")


class Entry(NamedTuple):
    """One run of a sweep."""

    name: str
    config: RunConfig


def read_sweep(path: Path, overrides: Mapping[str, Any] | None = None) -> list[Entry]:
    """The runs of a sweep file in their order; ``overrides`` hold in every run.

    Raises UserError for whatever is wrong with any of them, by the row's name.
    """
    given = read_recipe(path)
    for key in given:
        if key not in KEYS:
            raise unknown(f"key in sweep '{path}'", str(key), KEYS)
    base, overrides = _base(path, given.get("base", {})), overrides or {}
    if "seed" in overrides:
        raise UserError(f"seed is what a sweep varies: set seeds in '{path}'.")
    rows = _mapping(given.get("rows", {}), "rows", path) or {"": {}}
    points = list(_grid(_mapping(given.get("grid", {}), "grid", path), path))
    seeds_of_all = given.get("seeds", [base["seed"]] if "seed" in base else 1)
    for _, point in points:
        left = "Leave it out here, or take it out of the grid."
        _check_not_replaced(point, overrides, f"In the grid of sweep '{path}'", "the command line", left)
    entries = []
    for row, own in rows.items():
        changes = dict(_mapping(own or {}, f"rows.{row}", path))
        seeds = _seeds(changes.pop("seeds", seeds_of_all), path)
        if "seed" in changes or "seed" in given.get("grid", {}):
            raise UserError(f"In sweep '{path}': seed is not for rows or a grid to set. Say seeds, such as seeds: [5].")
        for labels, point in points:
            where = f"In sweep '{path}', row '{row}'"
            _check_not_replaced(changes, point, where, "the grid", "Leave it to one of them.")
            name = "_".join(filter(None, [str(row), *labels])) or path.stem
            if not _NAME.fullmatch(name):
                raise UserError(f"In sweep '{path}': '{name}' names a folder. Use letters, digits and any of _ . + -")
            try:
                keys = merged(merged(merged(base, changes), point), overrides)
                entries += [(place, Entry(f"{name}-seed{s}", make_config({**keys, "seed": s}))) for place, s in seeds]
            except UserError as error:
                raise UserError(f"In sweep '{path}', row '{name}': {error}") from error
    ordered = [entry for _, entry in sorted(entries, key=lambda placed: placed[0])]  # stable: rows keep their order
    for one, other in itertools.combinations(ordered, 2):
        if one.config == other.config:
            raise UserError(f"In sweep '{path}': '{one.name}' and '{other.name}' are the same run. Leave one out.")
    for name in {entry.name.casefold() for entry in ordered}:
        if sum(entry.name.casefold() == name for entry in ordered) > 1:
            raise UserError(f"In sweep '{path}': two runs are called '{name}'. Name rows and values differently.")
    return ordered


def _check_not_replaced(own: Mapping[str, Any], later: Mapping[str, Any], where: str, who: str, mend: str) -> None:
    """Raises UserError for a key that would be set twice: a name would tell of a value that its run does not have."""
    for key, value in later.items():
        for leaf in _leaves(own):
            begun_anew = leaf.startswith(f"{key}.") and not (key == "data" and isinstance(value, str))
            if begun_anew or leaf in (key, f"{key}.name") or f"{leaf}.name" == key:
                raise UserError(f"{where}: {leaf} is set here, and by {who} ({key}), which would replace it. {mend}")


def _leaves(keys: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Nested keys with dots, as the command line has them."""
    for key, value in keys.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _base(path: Path, given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        return read_recipe(path.parent / os.path.expanduser(given))
    return merged({}, _mapping(given, "base", path))


def _grid(axes: Mapping[str, Any], path: Path) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Every combination: the names of its values, and its keys."""
    named = []
    for key, values in axes.items():
        if isinstance(values, list) and values and all(isinstance(value, (str, int, float)) for value in values):
            values = {f"{value}": value for value in values}
        if not isinstance(values, dict) or not values:
            raise UserError(
                f"In sweep '{path}': grid.{key} should be a list of words and numbers, or a mapping from a name to "
                f"each value, got {values!r}."
            )
        named.append([(str(name), key, value) for name, value in values.items()])
    for combination in itertools.product(*named):
        yield [name for name, _, _ in combination], {key: value for _, key, value in combination}


def _seeds(given: Any, path: Path) -> Sequence[tuple[int, int]]:
    """(place, seed) of each."""
    seeds = list(range(given)) if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError(f"In sweep '{path}': seeds should be a number of 1 or more, or a list of seeds, got {given!r}.")
    return list(enumerate(seeds))


def _mapping(given: Any, key: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise UserError(f"In sweep '{path}': {key} should hold keys and values, got {given!r}.")
    return given
