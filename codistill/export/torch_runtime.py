"""Files that PyTorch runs, as functions from pixels to logits, on the CPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from codistill.errors import UserError, first_line
from codistill.errors.libraries import importing
from codistill.export.network import Deployed, OneStudent
from codistill.export.reader import Export
from codistill.export.types import Answer, Floats
from codistill.models.load import load_student
from codistill.storage.weights import load_weights


def take_threads(threads: int | None) -> None:
    """Of one call, in this process; None leaves it as it is."""
    if threads is not None:
        torch.set_num_threads(threads)


def student_file(path: Path, *, trust: bool = False) -> tuple[Answer, dict[str, Any]]:
    """A student's file of a run -> its answer, and its facts. trust: needed for one of a user's own factory."""
    student, facts = load_student(path, run_factory=trust)
    return _answer(Deployed(OneStudent(student), facts["mean"], facts["std"])), facts


def program(path: Path) -> Answer:
    """``model.pt2``. Only for files that are trusted."""
    try:
        return _answer(torch.export.load(path).module())
    except Exception as error:  # its readers raise anything
        raise UserError(f"'{path}' cannot be run: {first_line(error)}") from error


def weights(export: Export, *, trust: bool = False) -> Answer:
    """``model.safetensors``, in the network that ``model.json`` names; trust: needed for a user's own factory."""
    place = export.folder / "model.json"
    try:
        model = json.loads(place.read_text(encoding="utf-8"))
        library, name, settings = model["library"], model["name"], model["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{place}' is damaged: {first_line(error)}") from error
    if library == "timm":
        network = _timm(export, name, settings)
    else:
        student, _ = load_student(export.file, run_factory=trust)
        network = OneStudent(student)
    preprocessing = export.facts["preprocessing"]
    return _answer(Deployed(network, preprocessing["mean"], preprocessing["std"]).eval())


def _timm(export: Export, name: str, settings: dict[str, Any]) -> nn.Module:
    with importing("timm", f"'{export.folder}'"):
        import timm
    network: nn.Module = timm.create_model(name, num_classes=len(export.class_names), **settings).eval()
    try:
        loaded = load_file(export.file)
    except SafetensorError as error:
        raise UserError(f"'{export.file}' is damaged: {error}") from error
    load_weights(network, loaded, str(export.file), f"timm's {name}")
    return network


def _answer(network: Callable[[Tensor], Tensor]) -> Answer:
    def answer(pixels: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = network(torch.from_numpy(pixels)).numpy()
        return logits

    return answer
