"""What summary.json says of a finished run."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from codistill import __version__
from codistill.training.build import Experiment
from codistill.training.evaluate import Accuracy
from codistill.training.recorder import Recorder
from codistill.training.runtime import Runtime


def summarise(experiment: Experiment, test: Accuracy, recorder: Recorder) -> dict[str, Any]:
    """``test``: of the last epoch. Accuracies in percent."""
    students, training_only = experiment.cohort.parameter_counts()
    validation, runtime = recorder.accuracy, experiment.runtime
    return {
        "test_accuracy": test._asdict(),
        "validation_accuracy": validation._asdict() if validation else None,
        "warnings": recorder.warnings,
        "parameters": {"students": students, "training_only": training_only},
        "forward_passes": _forward_passes(experiment, recorder.burn_in_share),
        "images": experiment.sizes,
        "fingerprint": experiment.fingerprint,
        "fingerprints": experiment.fingerprints,
        "images_per_second": round(recorder.images_per_second, 1),
        "peak_memory_bytes": runtime.peak_memory_bytes(),
        "seconds": round(recorder.clock.total_seconds, 1),
        "training_seconds": round(recorder.clock.training_seconds, 1),
        "processor_seconds": _processor_seconds(recorder, runtime),
        "seed": experiment.config.seed,
        "device": runtime.describe(),
        "processes": runtime.processes.count,
        "versions": {
            "codistill": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": f"{sys.platform} {platform.machine()}",
        },
        "commit": _commit(),
    }


def _forward_passes(experiment: Experiment, burn_in: float) -> dict[str, float]:
    """Of each student over a batch, in a step on average; in the share ``burn_in`` of them, the first has one alone."""
    views = experiment.cohort.views_of
    passes = {name: (1.0 - burn_in) * sum(own.values()) for name, own in views.items()}
    return {name: own + (burn_in if name == next(iter(views)) else 0.0) for name, own in passes.items()}


def _processor_seconds(recorder: Recorder, runtime: Runtime) -> float | None:
    """What training took of the processor; nothing on a GPU, nor where other processes worked too."""
    known = runtime.device.type == "cpu" and runtime.processes.count == 1
    return round(recorder.clock.processor_seconds, 1) if known else None


def _commit() -> str | None:
    """The commit of codistill's own source, with "+" if it was changed; None where it is not a checkout."""
    here = Path(__file__).resolve().parents[1]  # the package
    try:
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True)
        if tracked.returncode:
            return None
        revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain", "."], cwd=here, capture_output=True, text=True)
        return revision.stdout.strip() + ("+" if changed.stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
