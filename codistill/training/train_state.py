"""What training consists of at a moment, gathered from all processes for a checkpoint, and put back exactly."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codistill.core.cohort import Cohort
from codistill.data.fingerprint import changed_since
from codistill.errors import UserError
from codistill.storage.run_files import differing_keys
from codistill.storage.weights import load_weights
from codistill.training.amp import Scaling
from codistill.training.meter import Meter
from codistill.training.runtime import Runtime


class Origin(NamedTuple):
    """What a run was begun with, which must still be so when it goes on."""

    run: Path
    config_yaml: Callable[[], str]  # the complete configuration; how long training is may change
    data: str  # its name
    fingerprint: str  # of the training images
    fingerprints: Mapping[str, str]  # of each split


class Snapshot:
    """Weights, what the optimizer remembers, loss scale and random state; and the meters, which are each process's."""

    def __init__(
        self,
        origin: Origin,
        cohort: Cohort,
        optimizer: torch.optim.Optimizer,
        scaling: Scaling,
        runtime: Runtime,
        may_differ: Collection[str] = (),
    ) -> None:
        """may_differ: keys in which the configuration may be another than the one that was saved."""
        self._origin, self._cohort, self._runtime = origin, cohort, runtime
        self._optimizer, self._scaling = optimizer, scaling
        self._processes, self._may_differ = runtime.processes, may_differ

    def take(self, meters: Mapping[str, Meter]) -> dict[str, Any]:
        """As ``checkpoint.seal`` takes it. All processes must ask; whole tensors are in the main one alone."""
        main, *others = self._processes.gather(self._own(meters))
        return {
            **main,
            **({"other_processes": others} if others else {}),
            "cohort": self._processes.whole(self._cohort.state_dict()),
            "optimizer": self._processes.whole(self._optimizer.state_dict()),
            "scaling": self._scaling.state(),
            "config": self._origin.config_yaml(),
            "data": self._origin.fingerprint,
            "fingerprints": dict(self._origin.fingerprints),
        }

    def put_back(self, state: Mapping[str, Any], meters: Mapping[str, Meter]) -> None:
        """Take up what ``take`` returned. Raises UserError, naming what differs, if it is not of this run."""
        self._check(state)
        own = self._own_of(state)
        place, built = f"{self._origin.run}/checkpoint.pt", "the run's config.yaml"
        load_weights(self._cohort, state["cohort"], place, built, self._processes.part)
        self._optimizer.load_state_dict(self._parts(state["optimizer"]))
        self._scaling.restore(state["scaling"])
        torch.set_rng_state(own["random_state"])
        if "cuda_random_state" in own and self._runtime.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda_random_state"], self._runtime.device)
        for name, meter in meters.items():
            meter.restore(own["meters"][name], self._runtime.device)

    def _check(self, state: Mapping[str, Any]) -> None:
        run, config_yaml, data, fingerprint, fingerprints = self._origin
        if differing := differing_keys(config_yaml(), state["config"], self._may_differ):
            raise UserError(
                f"The configuration in '{run}' is not the one that its checkpoint was trained with: it "
                f"differs in {', '.join(differing[:3])}{' and more' if differing[3:] else ''}. "
                "Put config.yaml back, or start another run with the new configuration."
            )
        if changed := changed_since(state, fingerprint, fingerprints):
            named = "training" if "train" in changed else " and ".join(changed)
            raise UserError(
                f"The {named} images of data '{data}' are not those that the run in '{run}' began with: "
                "files were changed, added or removed since, or another version of Pillow decodes them otherwise. "
                "Put the data back, or start another run."
            )

    def _own(self, meters: Mapping[str, Meter]) -> dict[str, Any]:
        """What of a checkpoint is another in each process."""
        own: dict[str, Any] = {
            "meters": {name: meter.state() for name, meter in meters.items()},
            "random_state": torch.get_rng_state(),
        }
        if self._runtime.device.type == "cuda":
            own["cuda_random_state"] = torch.cuda.get_rng_state(self._runtime.device)
        return own

    def _own_of(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """This process's part of a checkpoint. Raises UserError if there were more or fewer processes."""
        all_of_them = [state, *state.get("other_processes", [])]
        if len(all_of_them) != self._processes.count:
            raise UserError(
                f"The run in '{self._origin.run}' was trained by {len(all_of_them)} processes, now there are "
                f"{self._processes.count}. Go on with as many as before."
            )
        return all_of_them[self._processes.rank]

    def _parts(self, optimizer: dict[str, Any]) -> dict[str, Any]:
        """An optimizer's state with this process's part of each tensor."""
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        parts = {
            number: {
                key: self._processes.part(value, parameters[number]) if isinstance(value, Tensor) else value
                for key, value in own.items()
            }
            for number, own in optimizer["state"].items()
        }
        return {**optimizer, "state": parts}
