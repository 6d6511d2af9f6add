"""What the students of a finished run learned: analysis.json, and what it is made of.

Raw material that the run did not save (it is an early one, large, or trained by several processes) is made from its
checkpoint first. Nothing in here trains.
"""

import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from codistill import __version__
from codistill.data.images import Images
from codistill.data.loader import EvaluationLoader
from codistill.errors import UserError
from codistill.methods.cpm import CollaborativeProcessing
from codistill.methods.cpm_maps import CpmMaps, cpm_maps
from codistill.metrics.advantages import fixed_by
from codistill.metrics.describe import describe, over_epochs
from codistill.metrics.examples import choose_examples
from codistill.metrics.plain import plain
from codistill.metrics.probabilities import log_softmax
from codistill.metrics.raw import Raw, read_answers, read_raw
from codistill.storage.atomic_io import SaveError
from codistill.storage.run_dir import RunFolder
from codistill.training.build import Experiment
from codistill.training.restore import rebuild, save_outputs
from codistill.training.stage_cka import stage_cka

VERSION = 1  # of analysis.json
MOST_FIXED = 24  # images that are kept of those which the control got wrong
SAMPLE = 2000  # images, evenly spread, for what needs a pass of its own


class Output(NamedTuple):
    """A file beside the analysis, not written yet: ``outputs/NAME.safetensors``."""

    name: str
    tensors: dict[str, Tensor]
    about: dict[str, Any]


class TakenUp(NamedTuple):
    """A finished run, one of its splits, and what everybody said of the images."""

    experiment: Experiment
    folder: RunFolder
    images: Images
    raw: Raw
    unsaved: SaveError | None  # why ``raw``, which the run had not kept, could not be kept now


class NotSavedError(UserError):
    """An analysis that could not all be written into the run. ``found``: what analysis.json would hold."""

    def __init__(self, message: str, found: dict[str, Any]) -> None:
        super().__init__(message)
        self.found = found


def analyse_run(run: Path, split: str = "test", device: str = "auto", control: Path | None = None) -> dict[str, Any]:
    """Analyse one split of a finished run and write it down. Raises UserError where there is nothing to analyse, and
    NotSavedError, which holds what was found, where it cannot be written.

    control: a run that was analysed before, of the same students alone; images that it got wrong are kept to be shown.
    """
    experiment, folder, images, raw, unsaved = take_up(run, split, device)
    found = {
        "version": VERSION,
        "codistill": __version__,
        "command": shlex.join(["codistill", "analyse", str(run), "--data", split]),
        "data": split,
        **describe(raw),
    }
    sample = _loader(experiment, images.spread(SAMPLE))
    cka = stage_cka(experiment.cohort, sample, experiment.runtime)
    values = [[plain(value, 4) for value in row] for row in cka.matrix()]
    found["stage_cka"] = {"layers": cka.layers, "values": values, "images": cka.images}
    found["cpm"] = _cpm(experiment, sample)
    answers = read_answers(run)
    found["over_epochs"] = None if answers is None else over_epochs(answers, raw.students)
    found["examples"], examples = _examples(experiment, split, images, found)
    fixed = _fixed(images, raw, control) if control is not None and split == "test" else None
    try:
        for output in (examples, fixed):
            if output is not None:
                folder.save_outputs(*output)
        folder.save_analysis(split, found)
        if unsaved is not None:
            raise unsaved
    except SaveError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise NotSavedError(f"The analysis of '{run}' cannot be written there: {reason}.", found) from error
    return found


def take_up(run: Path, split: str, device: str) -> TakenUp:
    """A finished run with what was said of a split's images. Raises UserError where it has none."""
    experiment, summary = rebuild(run, device)
    loader = experiment.test if split == "test" else experiment.validation
    if loader is None:
        raise UserError(f"'{run}' has no validation images (data.validation=0). Use --data test.")
    folder = RunFolder(run)
    raw, unsaved = _raw(experiment, folder, split, summary.get("sha256", {}))
    if not np.array_equal(raw.labels, loader.images.labels):  # a run of an earlier version, which rebuild cannot tell
        raise UserError(f"'{run}/outputs' holds answers to other {split} images than the data has now. Put them back.")
    return TakenUp(experiment, folder, loader.images, raw, unsaved)


def _raw(
    experiment: Experiment, folder: RunFolder, split: str, digests: dict[str, str]
) -> tuple[Raw, SaveError | None]:
    """What the run saved, if it is of these weights; else it is made and saved, or told why it could not be saved."""
    if (folder.path / "outputs" / f"{split}.safetensors").exists():
        raw = read_raw(folder.path, split)
        if raw.sha256 == digests:
            return raw, None
    try:
        save_outputs(experiment, folder, split, digests)
        return read_raw(folder.path, split), None
    except SaveError as error:
        with TemporaryDirectory() as place:
            save_outputs(experiment, RunFolder(Path(place)), split, digests)
            return read_raw(Path(place), split), error


def _loader(experiment: Experiment, images: Images) -> EvaluationLoader:
    facts = experiment.facts
    return EvaluationLoader(images, mean=facts["mean"], std=facts["std"], device=experiment.runtime.device)


def _find_cpm(experiment: Experiment) -> CollaborativeProcessing | None:
    modules = experiment.cohort.teachers.values()
    return next((module for module in modules if isinstance(module, CollaborativeProcessing)), None)


def _maps(experiment: Experiment, cpm: CollaborativeProcessing, batches: EvaluationLoader) -> list[CpmMaps]:
    with experiment.runtime.only_looking(experiment.cohort):
        return [cpm_maps(cpm, experiment.cohort.see(batch.images)) for batch in batches]


def _cpm(experiment: Experiment, sample: EvaluationLoader) -> dict[str, Any] | None:
    """How far the CPM trusts each student, and how much of its fused map comes from each, in percent."""
    cpm = _find_cpm(experiment)
    if cpm is None:
        return None
    maps = _maps(experiment, cpm, sample)

    def mean(name: str) -> float | None:
        shares = torch.cat([of_batch.contribution[name].float().mean(dim=(1, 2)) for of_batch in maps])
        return plain(100 * float(shares.mean()), 3)

    return {
        "trust": {name: plain(value, 4) for name, value in maps[0].trust.items()},
        "contribution": {name: mean(name) for name in cpm.students},
        "grid": list(cpm.grid),
    }


def _examples(
    experiment: Experiment, split: str, images: Images, found: dict[str, Any]
) -> tuple[dict[str, Any], Output]:
    """A dozen images as they are, with the CPM's maps of each: which and why, and the file that holds them."""
    parting = {why: advantage["images"] for why, advantage in found["advantages"].items()}
    chosen = choose_examples(parting, len(images))
    rows = list(chosen)
    few = Images(images.pixels[rows], images.labels[rows], images.class_names)
    tensors: dict[str, Tensor] = {"images": few.pixels, "labels": few.labels, "rows": torch.tensor(rows)}
    if (cpm := _find_cpm(experiment)) is not None:
        maps = _maps(experiment, cpm, _loader(experiment, few))
        for name in cpm.students:
            tensors[f"attention/{name}"] = torch.cat([of_batch.attention[name].float() for of_batch in maps])
            tensors[f"contribution/{name}"] = torch.cat([of_batch.contribution[name].float() for of_batch in maps])
    name = "examples" if split == "test" else f"examples_{split}"
    why = list(chosen.values())
    told = {"file": f"outputs/{name}.safetensors", "rows": rows, "why": why, "maps": cpm is not None}
    return told, Output(name, tensors, {"split": split, "why": why})


def _fixed(images: Images, raw: Raw, control: Path) -> Output | None:
    """Images that students have right and the control got wrong, with both answers; and counts of both directions."""
    alone = read_raw(control, "test")
    if alone.students != raw.students or not np.array_equal(alone.labels, raw.labels):
        return None  # it was tested on other images: nothing can be said
    answers = {
        kind: {name: own.logits[name].argmax(axis=1) for name in raw.students}
        for kind, own in (("answers", raw), ("control", alone))
    }
    right, before = ({name: own == raw.labels for name, own in of.items()} for of in answers.values())
    confidence = {name: log_softmax(raw.logits[name]).max(axis=1) for name in raw.students}
    rows = fixed_by(right, before, confidence, MOST_FIXED)
    tensors = {"images": images.pixels[rows], "labels": images.labels[rows], "rows": torch.tensor(rows)}
    for kind, of in answers.items():
        tensors |= {f"{kind}/{name}": torch.from_numpy(own[rows]) for name, own in of.items()}
    counts = {
        name: {
            "fixed": int((right[name] & ~before[name]).sum()),
            "broken": int((before[name] & ~right[name]).sum()),
            "images": len(raw.labels),
        }
        for name in raw.students
    }
    about = {"control": str(control), "counts": counts, "sha256": raw.sha256, "control_sha256": alone.sha256}
    return Output("fixed", tensors, about)
