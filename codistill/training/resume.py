"""Going on with a run: what of its configuration may be another than when it began."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codistill.config.recipe import merged
from codistill.config.schema import RunConfig, make_config
from codistill.errors import UserError
from codistill.models import as_they_began
from codistill.storage.run_dir import RunFolder
from codistill.storage.run_files import of_today
from codistill.storage.yaml import read_yaml
from codistill.training.auto import burn_in_of, settled_as
from codistill.training.duration import EarlierPlan, Horizon, earlier_plans
from codistill.training.restore import read_run_config

# How long it still takes, on what device, and how it is sped up there.
CHANGEABLE = ("epochs", "device", "compile", "side_by_side")
# From a checkpoint's configuration. What the data are is told by their fingerprints: they may have moved.
MAY_DIFFER = (*CHANGEABLE, "replanned", "data.name")


def config_to_go_on(run: Path, changes: Mapping[str, Any]) -> RunConfig:
    """The configuration of an unfinished run with ``changes``, keys as on the command line.

    Raises UserError for a key that belongs to what was trained so far, or a run that is finished.
    """
    RunFolder(run).check_unfinished()
    config = read_run_config(run)
    for key in changes:
        if key not in CHANGEABLE:
            raise UserError(
                f"--resume goes on with the run's own configuration: of its keys {', '.join(CHANGEABLE)} can be given "
                f"anew, not {key}."
            )
    changed = merged(config.model_dump(mode="json"), changes)
    if isinstance(epochs := changed["epochs"], int) and 0 < epochs < config.optimizer.warmup_epochs:
        raise UserError(
            f"epochs={epochs} are fewer than optimizer.warmup_epochs={config.optimizer.warmup_epochs:g} of the run. "
            "Give that or more."
        )
    return make_config(changed)


def taken_up(config: RunConfig, state: Mapping[str, Any]) -> RunConfig:
    """A configuration to go on with from a checkpoint.

    That knows how long training was meant to be until then, and the files that students began with: they may be gone,
    and the configuration may be given as it was at first, without their digests.
    """
    before = make_config(of_today(read_yaml(state["config"])))
    config = settled_as(config, before)
    earlier = earlier_plans(before.epochs, _plans(before), config.epochs, state["steps_done"])
    students = as_they_began(config.students, before.students)
    return _with_plans(config.model_copy(update={"students": students}), config.epochs, earlier)


def as_planned(config: RunConfig, run: Path) -> RunConfig:
    """The configuration that a run began with, and was given again, with the epochs that it has by now."""
    now = read_run_config(run)
    return _with_plans(settled_as(config, now), now.epochs, _plans(now))


def with_horizon(config: RunConfig, horizon: Horizon) -> RunConfig:
    """The configuration of a run whose length was decided anew."""
    return _with_plans(config, horizon.epochs, horizon.earlier)


def horizon_of(config: RunConfig, steps_per_epoch: int) -> Horizon:
    return Horizon(config.epochs, steps_per_epoch, _plans(config), burn_in_of(config))


def _with_plans(config: RunConfig, epochs: int, earlier: Sequence[EarlierPlan]) -> RunConfig:
    plans = [plan._asdict() for plan in earlier]
    return make_config({**config.model_dump(mode="json"), "epochs": epochs, "replanned": plans})


def _plans(config: RunConfig) -> list[EarlierPlan]:
    return [EarlierPlan(plan.until_step, plan.epochs) for plan in config.replanned]
