"""What runs must have in common to compete, and what they may differ in: configurations as flat keys and values."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

# May differ between the runs of one row.
_FREE = (
    *("seed", "device", "compile", "side_by_side", "sharding"),
    *("log_every", "save_minutes", "trackers", "project", "data.cache"),
)
REPLANNED = "replanned"  # when --minutes changed the number of epochs
LENGTH = ("epochs", REPLANNED)  # terms that say how long a run trained
_OWN = ("method", "task")  # sections whose keys belong to one method or task: another row simply has others
# Runs that differ here do not compete: they saw other data, or were trained otherwise.
_TERMS = (
    *("data", "augment", "optimizer", "batch_size", *LENGTH),
    *("view_statistics", "sync_batchnorm", "precision", "students", "poison", "processes"),
)
OF_METHOD = "augment.per_student"  # which methods and burn-in bring with them: shown, and no other competition
SHOWN = ("method.name", "tasks")  # have columns of their own

# What some of the recorded runs in results/ lack, with what it stood for then: they compete with the others.
_LATER = {"name": "sgd", "beta2": 0.999, "lr_factors": {}}  # of optimizer


def weights_alone(config: dict[str, Any]) -> list[dict[str, Any]]:
    """For each student what its losses weigh when nobody teaches it: ``ce``, and those of its tasks."""
    weights = config.get("weights", {})
    return [
        {loss: weights.get(_key_of(f"{student}/{loss}", weights), usual) for loss, usual in losses.items()}
        for student, losses in _losses_alone(config).items()
    ]


def kept_alone(config: dict[str, Any], *, tasks: bool = True) -> dict[str, Any]:
    """The part of ``weights`` that weighs something without teaching, and without tasks if told so: there are no other
    losses then."""
    if not tasks:
        config = {**config, "tasks": [[] for _ in config["tasks"]]}
    weights = config.get("weights", {})
    names = (f"{student}/{loss}" for student, losses in _losses_alone(config).items() for loss in losses)
    heard = {_key_of(name, weights) for name in names}
    return {key: weight for key, weight in weights.items() if key in heard}


def _losses_alone(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By student: what each of its losses weighs unless ``weights`` says otherwise."""
    of_students = zip(config["students"], config["tasks"], strict=True)
    return {student: {"ce": 1.0, **{task["name"]: task.get("weight") for task in own}} for student, own in of_students}


def _key_of(loss: str, weights: dict[str, Any]) -> str | None:
    """The last match, as in the objective."""
    return next((key for key in reversed(weights) if fnmatchcase(loss, key)), None)


def comparable(config: dict[str, Any], processes: int = 1) -> dict[str, Any]:
    """A complete configuration without what may differ between the runs of one row.

    processes: in which it was trained. Each normalises, and compares images, in its own part of a batch, so that more
    of them are another training.
    """
    optimizer = config.get("optimizer")
    complete = {"optimizer": {**_LATER, **optimizer}} if isinstance(optimizer, dict) else {}
    return _without_free({**config, **complete, "processes": processes})


def _without_free(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without_free(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in _FREE
    }


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; a task's settings as ``task.<name>.<setting>``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key == "tasks":
            flat["tasks"] = describe_tasks(value)
            flat |= _task_settings(value)
        elif key == "students":
            flat[key] = list(value.values())  # models, whatever the students are called
        elif isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _task_settings(tasks: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """One value where all students who have the task agree on it, else a list with that of each."""
    found: dict[str, list[Any]] = {}
    for task in (task for own in tasks for task in own):
        for setting, given in task.items():
            if setting != "name":
                found.setdefault(f"task.{task['name']}.{setting}", []).append(given)
    return {key: given[0] if all(other == given[0] for other in given) else given for key, given in found.items()}


def describe_tasks(tasks: list[list[dict[str, Any]]]) -> str:
    own = ["+".join(task["name"] for task in tasks_of_one) or "none" for tasks_of_one in tasks]
    return own[0] if set(own) == {"none"} else ", ".join(own)


def terms_of(flat: dict[str, Any]) -> dict[str, Any]:
    """The part of a flat configuration that rows must share to compete."""
    return {key: value for key, value in flat.items() if belongs(key, _TERMS) and key != OF_METHOD}


def differing(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The keys in which flat configurations differ, sorted."""
    return sorted(key for key in set().union(*rows) if len(_values(key, rows)) > 1)


def shown(flat: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Those of the keys that a row has, or could have: a setting of another method is none of its own."""
    own = [key for key in keys if key in flat or not belongs(key, _OWN)]
    return {key: flat.get(key, "default") for key in own if not belongs(key, SHOWN)}


def written(settings: Mapping[str, Any]) -> str:
    """``epochs=20, optimizer.lr=0.1``, for a title or a cell; the many plans of --minutes in brief."""
    return ", ".join(f"{key}={_brief(value) if key == REPLANNED else value}" for key, value in settings.items())


def _brief(plans: Any) -> str:
    """``3 times, last at step 120``: when --minutes changed the number of epochs."""
    if not isinstance(plans, list) or not plans:
        return "never"
    times = "once" if len(plans) == 1 else f"{len(plans)} times, last"
    return f"{times} at step {plans[-1]['until_step']}"


def belongs(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _values(key: str, rows: Sequence[dict[str, Any]]) -> set[str]:
    """The values that a key has in these rows; where it is missing, that is one too, unless others own the key."""
    return {str(row[key]) if key in row else "default" for row in rows if key in row or not belongs(key, _OWN)}
