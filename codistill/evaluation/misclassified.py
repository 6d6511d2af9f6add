"""The images that a run's students have wrong, in a table that a user can go through: which file, and what was said."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codistill.errors.printable import printable
from codistill.evaluation.analyse import take_up
from codistill.metrics.probabilities import ensemble, log_softmax


def wrong_images(run: str | Path, split: str = "test", device: str = "auto") -> str:
    """CSV of the images of a split that some student has wrong, the least probable class first.

    image: where it is. class: what it is labelled. p(class) %: how probable that is to the students together. Then
    each student's answer, and how sure it is. Raises UserError as ``analyse_run`` does.
    """
    experiment, _, images, raw, _ = take_up(Path(run), split, device)
    log_p = {name: log_softmax(raw.logits[name]) for name in raw.students}
    answers = {name: own.argmax(axis=1) for name, own in log_p.items()}
    of_class = np.exp(ensemble(list(log_p.values()))[np.arange(len(raw.labels)), raw.labels])
    wrong = np.flatnonzero(np.any([own != raw.labels for own in answers.values()], axis=0))

    def line(row: int) -> Iterator[str]:
        place = experiment.place(images, row)
        yield place[1:-1] if place.startswith("'") else place
        yield printable(raw.class_names[raw.labels[row]])
        yield _percent(of_class[row])
        for name in raw.students:
            yield printable(raw.class_names[answers[name][row]])
            yield _percent(np.exp(log_p[name][row].max()))

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["image", "class", "p(class) %", *(head for name in raw.students for head in (name, f"{name} sure %"))]
    )
    writer.writerows(line(row) for row in wrong[np.argsort(of_class[wrong], kind="stable")].tolist())
    return text.getvalue()


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
