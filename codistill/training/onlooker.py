"""The run folder as processes see it that are not the main one: theirs is to train, not to write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from codistill.storage.run_dir import RunFolder


class Onlooker(RunFolder):
    """Writes nothing and holds no lock. What stands in the folder, the main process reads for all."""

    def check(self, overwrite: bool = False) -> None: ...

    def start(self, config_yaml: str, overwrite: bool = False) -> None: ...

    def begin_anew(self, config_yaml: str) -> None: ...

    def write_config(self, config_yaml: str) -> None: ...

    def log(self, record: dict[str, Any]) -> None: ...

    def keep_log_until(self, step: int) -> None: ...

    def save_checkpoint(self, state: dict[str, Any]) -> None: ...

    def save_bad_batch(self, tensors: dict[str, Tensor], where: dict[str, int]) -> Path:
        return self.path / "bad_batch.safetensors"

    def save_student(self, name: str, weights: dict[str, Tensor], metadata: dict[str, Any]) -> str:
        return ""

    def save_outputs(self, name: str, tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> None: ...

    def save_summary(self, summary: dict[str, Any]) -> None: ...
