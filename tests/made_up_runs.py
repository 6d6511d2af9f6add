"""Made-up run folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

CONFIG: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": [[{"name": "rotation", "weight": 1.0}], []],
    "method": {"name": "dml", "temperature": 1.0},
    "optimizer": {"lr": 0.1, "weight_decay": 5e-4},
    "epochs": 10,
    "seed": 0,
}
ALONE = {"name": "independent"}


def write_run(folder: Path, a: float, b: float, summary: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A run with these test accuracies; ``changes`` of its configuration, and what else its summary holds."""
    folder.mkdir(parents=True)
    config = {**CONFIG, **changes}
    whole = {
        "test_accuracy": accuracy(config, a, b),
        "parameters": {"students": {"a": 5, "b": 5}, "training_only": 1234},
        "seconds": 90.0,
        "seed": config["seed"],
        **(summary or {}),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "summary.json").write_text(json.dumps(whole))
    return folder


def accuracy(config: dict[str, Any], a: float, b: float) -> dict[str, Any]:
    return {"students": dict(zip(config["students"], (a, b), strict=True)), "teacher": None, "ensemble": max(a, b) + 1}


def write_seeds(folder: Path, name: str, means: list[float], **changes: Any) -> list[Path]:
    """A run for each seed; both students end at the same accuracy."""
    return [write_run(folder / f"{name}-seed{seed}", m, m, seed=seed, **changes) for seed, m in enumerate(means)]


def write_answers(
    run: Path, labels: list[int], a: list[int], b: list[int], sha256: dict[str, str] | None = None
) -> None:
    """``outputs/test.safetensors`` of three classes, in which ``a`` and ``b`` gave these answers."""
    (run / "outputs").mkdir()
    logits = {f"logits/{name}": 4 * np.eye(3, dtype=np.float32)[answers] for name, answers in (("a", a), ("b", b))}
    embeddings = {f"embeddings/{name}": np.zeros((len(labels), 1), dtype=np.float32) for name in ("a", "b")}
    about = {"students": ["a", "b"], "teacher": None, "class_names": list("xyz"), "sha256": sha256 or {}}
    save_file(
        {"labels": np.array(labels), **logits, **embeddings},
        run / "outputs" / "test.safetensors",
        {key: json.dumps(value) for key, value in about.items()},
    )
