"""The folder of an export, read as plain data. No torch in here.

export.json        everything about it: class names, preprocessing, accuracy, where it comes from
model.safetensors  the network's weights, with model.json, which says what network that is; or
model.pt2          the network as a program of torch.export; or
model.onnx         the network as an ONNX graph
README.md          the model card
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codistill.errors import UserError, first_line
from codistill.storage.hashing import sha256_of
from codistill.storage.run_files import misfits

FORMATS = {"safetensors": "model.safetensors", "torch": "model.pt2", "onnx": "model.onnx"}
FACTS = "export.json"

_KINDS = {
    "format": str,
    "sha256": str,
    "class_names": list,
    "image_size": list,
    "preprocessing": {"resize": str, "mean": list, "std": list, "normalised_in_file": bool},
}


@dataclass(frozen=True)
class Export:
    """An export that was found whole."""

    folder: Path
    facts: dict[str, Any]  # of export.json

    @property
    def format(self) -> str:
        return str(self.facts["format"])

    @property
    def file(self) -> Path:
        return self.folder / FORMATS[self.format]

    @property
    def class_names(self) -> list[str]:
        return list(self.facts["class_names"])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height, width."""
        height, width = self.facts["image_size"]
        return height, width

    @property
    def resize(self) -> str:
        """How images are brought to that size, in the words of ``codistill.data.transforms.resize``."""
        return str(self.facts["preprocessing"]["resize"])


def is_export(folder: Path) -> bool:
    return (folder / FACTS).is_file()


def read_export(folder: str | Path) -> Export:
    """Raises UserError unless the folder holds an export whose file is as it was written."""
    folder = Path(folder)
    if not is_export(folder):
        raise UserError(f"'{folder}' is no export: it has no {FACTS}. 'codistill export RUN' writes one.")
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"'{folder / FACTS}' is damaged: {first_line(error)}") from error
    wrong = list(misfits(facts, _KINDS)) if isinstance(facts, dict) else ["keys"]
    if wrong:
        raise UserError(f"'{folder / FACTS}' is damaged: it lacks {', '.join(wrong)}, or holds another kind there.")
    if facts["format"] not in FORMATS:
        raise UserError(f"'{folder / FACTS}' has format '{facts['format']}'. Known: {', '.join(FORMATS)}.")
    export = Export(folder, facts)
    check_file(export.file, facts["sha256"], FACTS, "Export again.")
    if facts.get("input_sha256") not in (None, digest_of_input(facts)):  # earlier exports have none
        raise UserError(
            f"'{folder / FACTS}' was altered: its class names, image size or preprocessing are not those of the "
            "network. Put them back as they were, or export again."
        )
    return export


def digest_of_input(facts: Mapping[str, Any]) -> str:
    """SHA-256 of what decides which pixels the network is given, and what its outputs are called."""
    decides = [facts[key] for key in ("class_names", "image_size", "preprocessing")]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def check_file(path: Path, sha256: str, record: str, mend: str) -> None:
    """Raises UserError if a file is not there, or is not the one whose digest the record beside it names."""
    if not path.is_file():
        raise UserError(f"'{path}' is missing. {mend}")
    if sha256_of(path) != sha256:
        raise UserError(f"'{path}' was altered: its SHA-256 is not the one in {record}. {mend}")
