"""What a configuration leaves to ``auto``, settled by how long training is: the method, its tasks, a second student.

Peers and tasks regularise: they pay once a network alone begins to overfit, and cost steps that a short training
lacks. One network is trained about twice as fast as two, and comes twice as far in the same time.

    too short for peers     one network alone; several, where they are listed, each alone
    long enough for peers   ``collaborative`` without a task
    long enough for tasks   ``collaborative`` with ``jigsaw`` for every student

Either ``collaborative`` begins with burn-in (``codistill.training.burn_in``) where students are of one model. What is
set explicitly is never changed, and a method that is named begins without. The lengths are those of
docs/results.md#short-trainings.
"""

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from codistill.config.resolve import AUTO
from codistill.config.schema import METHOD, RunConfig, make_config
from codistill.models import name_and_settings

TASK = "jigsaw"


class Length(NamedTuple):
    """Of a training. Both count: few images overfit within few steps, and many do not within few epochs."""

    steps: int
    epochs: float

    def reaches(self, other: "Length") -> bool:
        return self.steps >= other.steps and self.epochs >= other.epochs

    def __str__(self) -> str:
        epochs = f"{self.epochs:,.0f}" if self.epochs >= 10 else f"{self.epochs:.2g}"
        return f"{epochs} epoch{'s' * (epochs != '1')} and {self.steps:,} steps"


ENOUGH_FOR_PEERS = Length(steps=800, epochs=60)
ENOUGH_FOR_TASKS = Length(steps=2000, epochs=120)


BURN_IN = 0.5


def is_open(config: RunConfig) -> bool:
    """Whether ``settle`` has anything to choose."""
    return AUTO in (config.method.name, config.tasks, config.peers, config.burn_in)


def settle(config: RunConfig, length: Length, processes: int = 1) -> tuple[RunConfig, str]:
    """The configuration without ``auto``, and in one sentence what was chosen and why; no sentence if nothing was.

    length: of a training of all students that ``config`` has, by so many ``processes``.
    """
    if not is_open(config):
        return config, ""
    keys: dict[str, Any] = config.model_dump(mode="json")
    may_leave = keys.pop("peers", None) == AUTO and _method(config) == AUTO and not _tells_students_apart(config)
    if may_leave and not length.reaches(ENOUGH_FOR_PEERS):
        keys["students"] = dict(list(config.students.items())[:1])
        keys["tasks"] = AUTO if config.tasks == AUTO else keys["tasks"][:1]
    if config.method.name == AUTO:
        has_peers = len(keys["students"]) > 1 and length.reaches(ENOUGH_FOR_PEERS)
        keys["method"] = METHOD if has_peers or _method(config) == METHOD else "independent"
    if config.tasks == AUTO:
        pays = METHOD in (keys["method"], config.method.name) and length.reaches(ENOUGH_FOR_TASKS)
        keys["tasks"] = TASK if pays and not _is_pretrained(config) else "none"
    if config.burn_in == AUTO:
        chosen = config.method.name == AUTO and keys["method"] == METHOD and processes == 1
        plain = _of_one_model(config) and not _is_pretrained(config) and not _tells_students_apart(config)
        keys["burn_in"] = BURN_IN if chosen and plain else 0.0
    settled = make_config(keys)
    return settled, _sentence(config, settled, length)


def settled_as(config: RunConfig, run: RunConfig) -> RunConfig:
    """The configuration, settled as it was for a run; as in a short training if that run did not begin with it."""
    lengths = (Length(0, 0.0), ENOUGH_FOR_PEERS, ENOUGH_FOR_TASKS)
    ways = [settle(config, length, processes)[0] for processes in (1, 2) for length in lengths]

    def chosen(settled: RunConfig) -> list[Any]:
        open_keys = {"method": config.method.name, "tasks": config.tasks, "burn_in": config.burn_in}
        dumped = settled.model_dump(mode="json")
        return [list(settled.students), *(dumped[key] for key, given in open_keys.items() if given == AUTO)]

    return next((way for way in ways if chosen(way) == chosen(run)), ways[0])


def burn_in_of(config: RunConfig) -> float:
    """Its share of a configuration that is settled."""
    if isinstance(config.burn_in, str):
        raise ValueError("burn_in=auto is not settled yet: see settle.")
    return config.burn_in


def _of_one_model(config: RunConfig) -> bool:
    """Whether all students can begin as one network."""
    return len({str(model) for model in config.students.values()}) == 1


def _method(config: RunConfig) -> str:
    """The method that is set, by its name or by the weight of a loss that students alone do not have; or ``auto``."""
    tasks = [[TASK]] * len(config.students) if isinstance(config.tasks, str) else _names(config)
    alone = [f"{name}/{loss}" for name, own in zip(config.students, tasks, strict=True) for loss in ("ce", *own)]
    of_peers = any(not any(fnmatchcase(loss, pattern) for loss in alone) for pattern in config.weights)
    return METHOD if of_peers and config.method.name == AUTO else config.method.name


def _tells_students_apart(config: RunConfig) -> bool:
    """Whether something is set for one of the students alone, which therefore has to be there."""
    if config.poison is not None or config.optimizer.lr_factors:
        return True
    if not isinstance(config.tasks, str) and any(own != config.tasks[0] for own in config.tasks):
        return True
    of_pattern = [[fnmatchcase(name, key.partition("/")[0]) for name in config.students] for key in config.weights]
    return any(any(named) and not all(named) for named in of_pattern)


def _is_pretrained(config: RunConfig) -> bool:
    return any(name_and_settings(model)[1].get("pretrained") for model in config.students.values())


def _names(config: RunConfig) -> list[list[str]]:
    return [[task.name for task in own] for own in config.tasks_of_students.values()]


def _sentence(config: RunConfig, settled: RunConfig, length: Length) -> str:
    chosen, later = "", ""
    if len(settled.students) < len(config.students):
        model, _ = name_and_settings(next(iter(settled.students.values())))
        chosen = f"{model} is trained alone"
    elif len(settled.students) > 1:
        tasks = {name for own in _names(settled) for name in own}
        chosen = f"method={settled.method.name}" * (config.method.name == AUTO)
        if config.tasks == AUTO and settled.method.name == METHOD:  # others have none, however long training is
            chosen += f"{' with ' * bool(chosen)}tasks={', '.join(sorted(tasks)) or 'none'}"
        if config.burn_in == AUTO and settled.burn_in:
            chosen += f"{', ' * bool(chosen)}burn_in={settled.burn_in:g}"
    if not chosen:
        return ""
    if settled.method.name == "independent":
        later = f"; a peer pays from about {ENOUGH_FOR_PEERS} on"
    elif config.tasks == AUTO and not length.reaches(ENOUGH_FOR_TASKS) and not _is_pretrained(config):
        later = f"; {TASK} pays from about {ENOUGH_FOR_TASKS} on"
    return f"Chosen for {length}: {chosen}{later}."
