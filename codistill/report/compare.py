"""Runs side by side, from their files alone: mean and standard deviation over runs that differ only in their seed."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from codistill import run_files
from codistill.errors import UserError

# May differ between the runs of one row.
_FREE = ("seed", "device", "compile", "side_by_side", "log_every", "save_minutes", "trackers", "project", "data.cache")
_SHOWN = ("method.name", "tasks")  # have columns of their own
_OWN = ("method", "task")  # sections whose keys belong to one method or task: another row simply has others
# Runs that differ here do not compete: they saw other data, or were trained otherwise.
_TERMS = ("data", "augment", "optimizer", "batch_size", "epochs", "view_statistics", "precision", "students")


class Row(NamedTuple):
    """Runs that differ only in their seed. Accuracies are test accuracies in percent, one per seed."""

    method: str
    tasks: str
    students: dict[str, list[float]]
    teacher: list[float] | None
    ensemble: list[float]
    seeds: list[int]
    training_only: int  # parameters
    seconds: list[float]
    settings: dict[str, Any]  # what else differs between the rows of this table
    runs: list[Path]

    @property
    def students_mean(self) -> list[float]:
        """The mean over students, per seed."""
        return [statistics.fmean(accuracies) for accuracies in zip(*self.students.values(), strict=True)]


class Comparison(NamedTuple):
    """Rows in the order in which their first run was given, and the terms on which they do not compare."""

    rows: list[Row]
    differing_terms: list[str]


def compare(runs: Sequence[Path]) -> Comparison:
    """Read and group runs. Raises UserError for a folder that is no finished run, and for the same seed twice."""
    groups: dict[str, list[tuple[Path, dict[str, Any], dict[str, Any]]]] = {}
    for run in runs:
        config, summary = run_files.read_config(run), run_files.read_summary(run)
        if set(config["students"]) != set(summary["test_accuracy"]["students"]):
            raise UserError(f"'{run}': config.yaml and summary.json name different students. One is of another run.")
        groups.setdefault(yaml.safe_dump(_without_free(config)), []).append((run, config, summary))
    flat = [_flatten(_without_free(group[0][1])) for group in groups.values()]
    differing = {key for key in set().union(*flat) if len(_values(key, flat)) > 1}
    rows = []
    for group, settings in zip(groups.values(), flat, strict=True):
        _check_seeds(group)
        own = {key for key in differing if key in settings or not _belongs(key, _OWN)}
        shown = {key: settings.get(key, "default") for key in sorted(own) if not _belongs(key, _SHOWN)}
        rows.append(_row(group, shown))
    return Comparison(rows, sorted(key for key in differing if _belongs(key, _TERMS)))


def mean_and_deviation(values: Sequence[float], digits: int = 2) -> str:
    """``71.23 ± 0.45`` (sample standard deviation), or the value alone where there is one."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def table(comparison: Comparison, timing: bool = True) -> tuple[list[str], list[list[str]]]:
    """Header and cells. Where rows name their students differently, columns are by their order."""
    rows = comparison.rows
    names = [list(row.students) for row in rows]
    places = max(map(len, names))
    same_names = all(own == names[0] for own in names)
    columns = names[0] if same_names else [f"student {place + 1}" for place in range(places)]
    header = ["method", "tasks", *columns, "students' mean", "teacher", "ensemble"]
    header += ["seeds", "training-only parameters", *(["minutes a run"] if timing else [])]
    any_settings = any(row.settings for row in rows)
    cells = []
    for row in rows:
        accuracies = [mean_and_deviation(values) for values in row.students.values()]
        cells.append(
            [
                row.method,
                row.tasks,
                *accuracies,
                *[""] * (places - len(accuracies)),
                mean_and_deviation(row.students_mean),
                mean_and_deviation(row.teacher) if row.teacher else "",
                mean_and_deviation(row.ensemble),
                str(len(row.seeds)),
                f"{row.training_only:,}",
                *([f"{statistics.fmean(row.seconds) / 60:.1f}"] if timing else []),
                *([", ".join(f"{key}={value}" for key, value in row.settings.items())] if any_settings else []),
            ]
        )
    return header + (["also differs"] if any_settings else []), cells


def markdown(comparison: Comparison, timing: bool = True) -> str:
    """The table for a Markdown page; ``timing=False`` where runs were not timed under equal conditions."""
    header, cells = table(comparison, timing)
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _row(group: list[tuple[Path, dict[str, Any], dict[str, Any]]], settings: dict[str, Any]) -> Row:
    group = sorted(group, key=lambda run: run[2]["seed"])
    config, summaries = group[0][1], [summary for _, _, summary in group]
    tests = [summary["test_accuracy"] for summary in summaries]
    return Row(
        method=config["method"]["name"],
        tasks=_describe_tasks(config["tasks"]),
        students={name: [test["students"][name] for test in tests] for name in config["students"]},
        teacher=None if tests[0]["teacher"] is None else [test["teacher"] for test in tests],
        ensemble=[test["ensemble"] for test in tests],
        seeds=[summary["seed"] for summary in summaries],
        training_only=summaries[0]["parameters"]["training_only"],
        seconds=[summary["seconds"] for summary in summaries],
        settings=settings,
        runs=[run for run, _, _ in group],
    )


def _describe_tasks(tasks: list[list[dict[str, Any]]]) -> str:
    own = ["+".join(task["name"] for task in tasks_of_one) or "none" for tasks_of_one in tasks]
    return own[0] if set(own) == {"none"} else ", ".join(own)


def _check_seeds(group: list[tuple[Path, dict[str, Any], dict[str, Any]]]) -> None:
    seen: dict[int, Path] = {}
    for run, config, _ in group:
        if config["seed"] in seen:
            raise UserError(
                f"'{seen[config['seed']]}' and '{run}' are the same run (seed {config['seed']}): a mean over copies "
                "would look more certain than it is. Leave one out."
            )
        seen[config["seed"]] = run


def _without_free(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration without the keys that may differ between the runs of one row."""
    return {
        key: _without_free(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in _FREE
    }


def _values(key: str, rows: Sequence[dict[str, Any]]) -> set[str]:
    """The values that a key has in these rows; where it is missing, that is one too, unless others own the key."""
    return {str(row[key]) if key in row else "default" for row in rows if key in row or not _belongs(key, _OWN)}


def _belongs(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; a task's settings as ``task.<name>.<setting>``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key == "tasks":
            flat["tasks"] = _describe_tasks(value)
            for own in value:
                for task in own:
                    for setting, given in task.items():
                        if setting != "name":  # a list: several students may have the task, each with its settings
                            flat.setdefault(f"task.{task['name']}.{setting}", []).append(given)
        elif key == "students":
            flat[key] = list(value.values())  # models, whatever the students are called
        elif isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
