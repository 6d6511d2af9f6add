"""The story of an export: choose the network, write it, read it again, measure what was read, describe it.

All is written beside the folder and renamed into its place at the end, so that an export is whole or not there.
"""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from codistill import __version__
from codistill.config.schema import RunConfig
from codistill.core.cohort import Cohort
from codistill.errors import UserError, unknown
from codistill.export.card import card
from codistill.export.int8 import quantize_int8
from codistill.export.latency import in_turn
from codistill.export.network import Deployed, network_of
from codistill.export.parity import Measured, measure
from codistill.export.plain import Plain, plain
from codistill.export.reader import FACTS, FORMATS, Export, digest_of_input, is_export, read_export
from codistill.export.runtimes import open_network, open_onnx
from codistill.export.select import BEST, ENSEMBLE, LAST, TEACHER, Chosen, choose_student
from codistill.export.write import import_onnx, write_onnx, write_program, write_safetensors
from codistill.storage.atomic_io import bring_to_disk
from codistill.storage.hashing import sha256_of
from codistill.storage.run_dir import RunFolder
from codistill.storage.weights import load_weights
from codistill.training.build import Experiment
from codistill.training.restore import read_run_config, rebuild


def write_export(
    run: Path, student: str, to: str, epoch: str, quantize: str | None, out: Path | None, overwrite: bool = False
) -> Export:
    """Arguments as of ``codistill.export.export``."""
    config = read_run_config(run)
    chosen = _choose(run, config, student, epoch)
    _check_possible(run, config, chosen.name, to, quantize)
    folder = out or Path("exports") / "-".join([run.resolve().name, chosen.file, to, *([quantize] if quantize else [])])
    _check_free(folder, overwrite)

    experiment, summary = rebuild(run, "cpu")
    if chosen.epoch == BEST:
        _put_best_epoch(run, chosen, experiment.cohort)
    tested = summary["test_accuracy_selected" if chosen.epoch == BEST else "test_accuracy"]
    epoch_number = tested.get("epoch", config.epochs)
    why_then = "the best by the students' mean accuracy on validation images" if chosen.epoch == BEST else "the last"
    network = network_of(experiment.cohort, chosen.name, config.method.name)
    with _beside(folder) as temporary:
        facts: dict[str, Any] = {
            "format": to,
            "student": chosen.name,
            "chosen": chosen.why,
            "epoch": epoch_number,
            "weights": f"after epoch {epoch_number} of {config.epochs}, {why_then}",
            "quantized": quantize,
            **_about_input(experiment),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        }
        _write(temporary, network, experiment, chosen.name, facts)
        file = temporary / FORMATS[to]
        facts |= {"sha256": sha256_of(file), "input_sha256": digest_of_input(facts), "bytes": file.stat().st_size}
        measured = measure(network, open_network(Export(temporary, facts), trust=True), experiment.test)
        if quantize is None and not measured.same:
            raise UserError(_difference(to, measured))
        facts |= {
            "test_accuracy": {
                "exported": measured.accuracy,
                "pytorch": measured.accuracy_before,
                "run": _accuracy_of_run(tested, config, chosen.name),
                "images": measured.images,
            },
            "parity": {
                "largest_difference": measured.largest_difference,
                "allowed_difference": measured.allowed_difference if quantize is None else None,
                "equal_answers": measured.equal_answers,
            },
            "run": _about_run(run, config, experiment, summary),
            "versions": _versions(),
        }
        (temporary / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(card(facts), encoding="utf-8")
    return read_export(folder)


def _choose(run: Path, config: RunConfig, name: str, epoch: str) -> Chosen:
    if name in config.students or name == BEST:
        return choose_student(run, name, epoch)
    if epoch != LAST:
        raise UserError(f"--epoch {epoch} is for a student, not for '{name}': runs keep nobody else's weights.")
    return Chosen(name, "the mean of all students' probabilities" if name == ENSEMBLE else "the method's teacher")


def _put_best_epoch(run: Path, chosen: Chosen, cohort: Cohort) -> None:
    """Give a student of a run its weights of the best epoch."""
    path, folder = f"{run}/students/{chosen.file}.safetensors", RunFolder(run)
    load_weights(cohort.students[chosen.name], folder.load_student(chosen.file), path, "the run's config.yaml")
    if chosen.sha256 is not None:
        folder.check_student(chosen.file, chosen.sha256)


def _check_possible(run: Path, config: RunConfig, name: str, to: str, quantize: str | None) -> None:
    """Raises UserError for what can be refused before data is read."""
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    if quantize not in (None, "int8"):
        raise unknown("--quantize", str(quantize), ["int8"])
    if quantize is not None and to != "onnx":
        raise UserError(
            f"--quantize {quantize} goes with --to onnx: PyTorch has no 8-bit program that loads without further "
            "packages, and weights alone would have no meaning."
        )
    if to == "safetensors" and name not in config.students:
        if name in (ENSEMBLE, TEACHER):
            raise UserError(f"Weights alone are those of one student, not of '{name}': choose --to torch or --to onnx.")
        none_of_them = unknown(f"student of run '{run}'", name, [*config.students, BEST])
        raise UserError(f"{none_of_them} An ensemble or a teacher goes with --to torch or --to onnx.")
    if to == "onnx":
        import_onnx()


def _write(folder: Path, network: nn.Module, experiment: Experiment, name: str, facts: dict[str, Any]) -> None:
    """The files of the format; completes the facts with what only the writer knows."""
    size, to = experiment.facts["image_size"], facts["format"]
    if to == "safetensors":
        made = _plain(experiment, name)
        write_safetensors(folder, made, {"model": experiment.config.students[name], **experiment.facts})
        facts["network"] = made.model
        facts["preprocessing"] |= {"mean": made.mean, "std": made.std, "normalised_in_file": False}
        return
    deployed = Deployed(network, experiment.facts["mean"], experiment.facts["std"]).eval()
    if to == "torch":
        write_program(folder, deployed, size)
        return
    write_onnx(folder, deployed, size)
    if facts["quantized"] is not None:
        file = folder / FORMATS["onnx"]
        full_precision = open_onnx(file)  # before the file is replaced
        facts["calibration_images"] = quantize_int8(file, experiment.train_images)
        facts["latency"] = in_turn(open_onnx(file), full_precision, size)._asdict()


def _plain(experiment: Experiment, name: str) -> Plain:
    student, facts = experiment.cohort.students[name], experiment.facts
    model = experiment.config.students[name]
    return plain(student, model, facts["image_size"], facts["mean"], facts["std"])  # type: ignore[arg-type]


def _about_input(experiment: Experiment) -> dict[str, Any]:
    facts = experiment.facts
    return {
        "class_names": list(facts["class_names"]),
        "image_size": list(facts["image_size"]),
        "input": "images: float32 (batch, 3, height, width), RGB, in [0, 1]",
        "output": "logits: float32 (batch, classes); softmax makes them probabilities",
        "preprocessing": {
            "resize": facts["resize"],
            "mean": list(facts["mean"]),
            "std": list(facts["std"]),
            "normalised_in_file": True,
        },
    }


def _about_run(run: Path, config: RunConfig, experiment: Experiment, summary: dict[str, Any]) -> dict[str, Any]:
    """How it was trained, for the card."""
    return {
        "name": run.resolve().name,
        "method": config.method.model_dump(),
        "students": dict(config.students),
        "tasks": {name: [task.name for task in own] for name, own in config.tasks_of_students.items()},
        "data": config.data.model_dump(exclude={"cache"}),
        "images": experiment.sizes,
        "told": experiment.data,
        "epochs": config.epochs,
        "replanned": [plan.model_dump() for plan in config.replanned],
        "batch_size": config.batch_size,
        "optimizer": config.optimizer.model_dump(),
        "precision": config.precision,
        "seed": config.seed,
        "versions": summary.get("versions"),
        "commit": summary.get("commit"),
    }


def _accuracy_of_run(accuracy: dict[str, Any], config: RunConfig, name: str) -> float:
    if name in config.students:
        return float(accuracy["students"][name])
    return float(accuracy["ensemble" if name == ENSEMBLE else "teacher"])


def _difference(to: str, measured: Measured) -> str:
    return (
        f"The file for {to} does not answer as the network does: logits differ by {measured.largest_difference:.2g} "
        f"where {measured.allowed_difference:.2g} is allowed, and {measured.equal_answers:.2f} % of the answers are "
        "equal. Nothing was exported."
    )


def _versions() -> dict[str, str]:
    found = {"codistill": __version__, "python": platform.python_version()}
    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _check_free(folder: Path, overwrite: bool) -> None:
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"Export folder '{folder}' is a file. Choose another --out.")
    if is_export(folder) and not overwrite:
        raise UserError(f"'{folder}' already holds an export. Choose another --out, or add --overwrite.")
    if not is_export(folder) and any(folder.iterdir()):
        raise UserError(
            f"Folder '{folder}' is not empty and holds no export: it is not replaced. Choose another --out."
        )


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder to write to, which takes the place of ``folder`` if all goes well, and else is removed."""
    temporary, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "old"))
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.iterdir():
            bring_to_disk(file)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.replace(old)
        temporary.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"Export folder '{folder}' cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
