"""After training, and not before, for no choice is made on test images: test the cohort, and save its students.

The weights of the epoch that validation images chose are tested and saved besides.
"""

import math
from typing import Any

from codistill.storage.run_dir import RunFolder
from codistill.training import predictions
from codistill.training.best_epoch import BestEpoch
from codistill.training.build import SAMPLE, Experiment
from codistill.training.evaluate import Accuracy, evaluate
from codistill.training.predictions import MOST_BYTES
from codistill.training.recorder import Recorder
from codistill.training.restore import save_outputs
from codistill.training.summary import summarise


def conclude(experiment: Experiment, folder: RunFolder, recorder: Recorder, epochs: int) -> dict[str, Any]:
    """Test what ``epochs`` made of the students, and save them. Returns what the summary says."""
    cohort, processes = experiment.cohort, experiment.runtime.processes
    accuracy = evaluate(cohort, experiment.test, experiment.runtime)
    digests = _save_students(experiment, folder)
    if seen_over_epochs := recorder.answers.state():
        assert experiment.validation is not None
        every = math.ceil(len(experiment.validation.images) / SAMPLE)
        folder.save_outputs("answers", seen_over_epochs, {"speakers": recorder.answers.speakers, "every": every})
    size = predictions.size(cohort, len(experiment.test.images), len(experiment.facts["class_names"]))
    if processes.count == 1 and size < MOST_BYTES:
        save_outputs(experiment, folder, "test", digests)  # else ``codistill analyse`` does
    selected = _test_best_epoch(experiment, folder, recorder.best, accuracy, epochs)
    return {**summarise(experiment, accuracy, recorder), **selected, "sha256": digests}


def _test_best_epoch(
    experiment: Experiment, folder: RunFolder, best: BestEpoch, last: Accuracy, epochs: int
) -> dict[str, Any]:
    """Test and save the weights that validation images chose; the accuracy of the last of ``epochs`` is known."""
    if best.epoch is None:
        return {"test_accuracy_selected": None}
    cohort = experiment.cohort
    with best.put_into(cohort):
        known = best.epoch == epochs
        accuracy = last if known else evaluate(cohort, experiment.test, experiment.runtime)
        digests = _save_students(experiment, folder, ".best", epoch=best.epoch)
    return {"test_accuracy_selected": {"epoch": best.epoch, **accuracy._asdict()}, "sha256_selected": digests}


def _save_students(experiment: Experiment, folder: RunFolder, ending: str = "", **more: Any) -> dict[str, str]:
    """Each student as it is now, in a file of its name and ``ending``, which tells its facts and ``more``; digests."""
    config, facts, whole = experiment.config, experiment.facts, experiment.runtime.processes.whole
    students = {name: whole(student.state_dict()) for name, student in experiment.cohort.students.items()}
    return {
        name: folder.save_student(f"{name}{ending}", weights, {"model": config.students[name], **facts, **more})
        for name, weights in students.items()
    }
