"""Run folders that nobody trained, whole enough for a report: made of random answers, without torch."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock
from safetensors.numpy import save_file

from codistill.metrics.describe import describe
from codistill.metrics.raw import read_raw

CLASSES = ("cat", "dog", "owl")


def write_run(
    folder: Path,
    method: str = "collaborative",
    *,
    accuracy: float = 60.0,
    seed: int = 0,
    epochs: int = 4,
    done: int | None = None,
    students: tuple[str, ...] = ("a", "b"),
    classes: tuple[str, ...] = CLASSES,
    tasks: Any = ({"name": "rotation"}, {"name": "supcon"}),
    analysed: bool = False,
    weights: bool = True,
    logged: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """A run of ``epochs``; finished, unless fewer are ``done``. Each student's test accuracy is ``accuracy``.

    settings: of the method. Without what was logged there is little to draw, so that a page is made at once.
    """
    folder.mkdir(parents=True)
    config = {
        "students": dict.fromkeys(students, "resnet8"),
        "tasks": [[task] if task else [] for task in tasks],
        "method": {"name": method, **(settings or {})},
        "weights": {},
        "data": {"name": "digits", "cache": True},
        "epochs": epochs,
        "seed": seed,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    lines = [_epoch(number, students, method, weights) for number in range(1, (epochs if done is None else done) + 1)]
    if lines and logged:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if done is None:
        finish(folder, students, accuracy, seed)
    if analysed:
        analyse(folder, students, classes, method)
    return folder


def finish(folder: Path, students: tuple[str, ...] = ("a", "b"), accuracy: float = 60.0, seed: int = 0) -> None:
    """Write the summary."""
    test = {"students": dict.fromkeys(students, accuracy), "teacher": accuracy + 1, "ensemble": accuracy + 2}
    summary = {
        "test_accuracy": test,
        "validation_accuracy": test,
        "warnings": ["Epoch 2: student 'a' answers 'cat' for all images."],
        "parameters": {"students": dict.fromkeys(students, 78042), "training_only": 86394},
        "images": {"train": 100, "validation": 20, "test": 60},
        "images_per_second": 245.5,
        "peak_memory_bytes": 2**29,
        "seconds": 5.3,
        "training_seconds": 4.7,
        "processor_seconds": 9.1,
        "seed": seed,
        "device": "cpu, 1 threads",
        "processes": 1,
        "versions": {"codistill": "0.1.0", "torch": "2.13.0"},
        "sha256": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def trained(folder: Path) -> AbstractContextManager[object]:
    """As a context: a run is being trained, for its lock is held."""
    return FileLock(folder / ".lock")


def analyse(folder: Path, students: tuple[str, ...], classes: tuple[str, ...], method: str = "collaborative") -> None:
    """What ``codistill analyse`` leaves."""
    random = np.random.default_rng(len(method))  # or a control would answer as what is compared with it
    (folder / "outputs").mkdir()
    teacher = "cpm" if method == "collaborative" else None
    labels = np.arange(60) % len(classes)
    tensors: dict[str, Any] = {"labels": labels}
    for name in (*students, *([teacher] if teacher else [])):
        logits = random.normal(size=(60, len(classes))) + 1.5 * np.eye(len(classes))[labels]
        tensors[f"logits/{name}"] = logits.astype(np.float32)
    for name in students:
        tensors[f"embeddings/{name}"] = random.normal(size=(60, 8)).astype(np.float16)
    about = {"students": list(students), "teacher": teacher, "class_names": list(classes), "sha256": {}}
    save_file(tensors, folder / "outputs" / "test.safetensors", {key: json.dumps(own) for key, own in about.items()})
    found = {"version": 1, "data": "test", "command": f"codistill analyse {folder}"}
    found |= describe(read_raw(folder, "test"))
    layers = [f"{name}/{stage}" for name in students for stage in (1, 2)]
    found["stage_cka"] = {"layers": layers, "values": np.full((len(layers),) * 2, 0.5).tolist(), "images": 60}
    shares = dict.fromkeys(students, 50.0)
    found["cpm"] = {"trust": dict.fromkeys(students, 1.0), "contribution": shares, "grid": [2, 2]} if teacher else None
    (folder / "analysis.json").write_text(json.dumps(found))
    rows = np.arange(8)
    images: dict[str, Any] = {
        "images": random.integers(0, 256, size=(8, 8, 8, 3), dtype=np.uint8),
        "labels": labels[rows],
        "rows": rows,
    }
    fixed = dict(images)
    for name in students:
        images[f"attention/{name}"] = random.random((8, 2, 2)).astype(np.float32)
        images[f"contribution/{name}"] = random.random((8, 2, 2)).astype(np.float32)
        fixed[f"answers/{name}"] = labels[rows]
        fixed[f"control/{name}"] = (labels[rows] + 1) % len(classes)
    if teacher:
        save_file(images, folder / "outputs" / "examples.safetensors", {"split": '"test"'})
        counts = {name: {"fixed": 8, "broken": 3, "images": 60} for name in students}
        told = {"counts": json.dumps(counts), "control": '"runs/alone"', "sha256": "{}", "control_sha256": "{}"}
        save_file(fixed, folder / "outputs" / "fixed.safetensors", told)


def _epoch(number: int, students: tuple[str, ...], method: str, weights: bool) -> dict[str, Any]:
    losses = {f"{name}/ce": 2.0 / number for name in students}
    if method != "independent":
        losses |= {f"{name}/peers_kl": 0.1 * number for name in students} | {"cpm/ce": 1.5 / number}
    line = {
        "kind": "epoch",
        "epoch": number,
        "step": 3 * number,
        "losses": {**losses, "total": sum(losses.values())},
        "images_per_second": 200.0,
        "validation_accuracy": {
            "students": {name: 10.0 * number + place for place, name in enumerate(students)},
            "teacher": 12.0 * number,
            "ensemble": 13.0 * number,
        },
        "richness": {name: 20.0 - number for name in students},
        "diversity": {
            "/".join(students[:2]): {"cka": 0.1 * number, "disagreement": 50.0 - number} for _ in students[1:2]
        },
        "warnings": [],
    }
    return {**line, "weights": dict.fromkeys(losses, 1.0)} if weights else line
