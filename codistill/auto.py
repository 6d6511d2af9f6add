"""What a configuration leaves to ``auto``, settled by how long training is: the method, its tasks, a second student.

Peers and tasks regularise: they pay once a network alone begins to overfit, and cost steps that a short training
lacks. One network is trained about twice as fast as two, and comes twice as far in the same time.

    too short for peers     one network alone; several, where they are listed, each alone
    long enough for peers   ``collaborative`` without a task
    long enough for tasks   ``collaborative`` with ``jigsaw`` for every student

Either ``collaborative`` begins with burn-in (``codistill.engine.burn_in``) where students are of one model. What is set
explicitly is never changed, and a method that is named begins without. The lengths are those of
docs/results.md#short-trainings.
"""

from typing import Any, NamedTuple

from codistill.config import RunConfig, make_config
from codistill.models import name_and_settings
from codistill.shorthand import AUTO

METHOD, TASK = "collaborative", "jigsaw"


class Length(NamedTuple):
    """Of a training. Both count: few images overfit within few steps, and many do not within few epochs."""

    steps: int
    epochs: float

    def reaches(self, other: "Length") -> bool:
        return self.steps >= other.steps and self.epochs >= other.epochs

    def __str__(self) -> str:
        return f"{self.epochs:,.0f} epochs ({self.steps:,} steps)"


ENOUGH_FOR_PEERS = Length(steps=600, epochs=40)
ENOUGH_FOR_TASKS = Length(steps=1500, epochs=100)


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
    may_leave = keys.pop("peers", None) == AUTO and config.method.name == AUTO and not _names_students(config)
    if may_leave and not length.reaches(ENOUGH_FOR_PEERS):
        keys["students"] = dict(list(config.students.items())[:1])
        keys["tasks"] = AUTO if config.tasks == AUTO else keys["tasks"][:1]
    has_peers = len(keys["students"]) > 1 and length.reaches(ENOUGH_FOR_PEERS)
    if config.method.name == AUTO:
        keys["method"] = METHOD if has_peers else "independent"
    pretrained = any(name_and_settings(model)[1].get("pretrained") for model in config.students.values())
    if config.tasks == AUTO:
        learn_together = has_peers and config.method.name in (AUTO, METHOD)
        keys["tasks"] = TASK if learn_together and length.reaches(ENOUGH_FOR_TASKS) and not pretrained else "none"
    if config.burn_in == AUTO:
        chosen = config.method.name == AUTO and keys["method"] == METHOD
        plain = of_one_model(config) and not (pretrained or _names_students(config)) and processes == 1
        keys["burn_in"] = BURN_IN if chosen and plain else 0.0
    settled = make_config(keys)
    return settled, _sentence(config, settled, length)


def settled_as(config: RunConfig, run: RunConfig) -> RunConfig:
    """The configuration, with what it leaves open as it was settled when a run began with it."""
    keys = ["method"] * (config.method.name == AUTO) + ["tasks"] * (config.tasks == AUTO)
    keys += ["burn_in"] * (config.burn_in == AUTO)
    if config.peers == AUTO:
        keys += ["students", "tasks", "peers"]
    return config.model_copy(update={key: getattr(run, key) for key in keys})


def burn_in_of(config: RunConfig) -> float:
    """Its share of a configuration that is settled."""
    if isinstance(config.burn_in, str):
        raise ValueError("burn_in=auto is not settled yet: see settle.")
    return config.burn_in


def of_one_model(config: RunConfig) -> bool:
    """Whether all students can begin as one network."""
    return len({str(model) for model in config.students.values()}) == 1


def _names_students(config: RunConfig) -> bool:
    """Whether the user has plans for a student of its own."""
    return config.poison is not None or bool(config.optimizer.lr_factors)


def _sentence(config: RunConfig, settled: RunConfig, length: Length) -> str:
    model, _ = name_and_settings(next(iter(settled.students.values())))
    if len(settled.students) == 1:
        chosen = f"{model} is trained alone" if len(config.students) > 1 else ""
    else:
        tasks = {task.name for own in settled.tasks_of_students.values() for task in own}
        chosen = f"method={settled.method.name}" * (config.method.name == AUTO)
        if config.tasks == AUTO and settled.method.name == METHOD:  # others have none, however long training is
            chosen += f"{' with ' * bool(chosen)}tasks={', '.join(sorted(tasks)) or 'none'}"
        if config.burn_in == AUTO and settled.burn_in:
            chosen += f"{', ' * bool(chosen)}burn_in={settled.burn_in:g}"
    if not chosen:
        return ""
    if settled.method.name == "independent":
        later = f"a peer pays from about {ENOUGH_FOR_PEERS} on"
    elif settled.method.name == METHOD and not length.reaches(ENOUGH_FOR_TASKS):
        later = f"{TASK} pays from about {ENOUGH_FOR_TASKS} on"
    else:
        later = ""
    return f"Chosen for {length}: {'; '.join(filter(None, [chosen, later]))}."
