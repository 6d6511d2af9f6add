"""From raw material to the numbers of analysis.json, as plain data.

Shares of images are in percent, as in summary.json; NLL and KL in nats; what is not defined is None. docs/metrics.md
tells each number's formula, source and traps.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codistill.metrics.advantages import alone, class_accuracies, most_confident, taken_for
from codistill.metrics.calibration import confidence_bins, expected_calibration_error, negative_log_likelihood
from codistill.metrics.cka import linear_cka
from codistill.metrics.diversity import count_both, disagreement, double_fault, error_correlation, mean_kl, q_statistic
from codistill.metrics.effective_rank import effective_rank
from codistill.metrics.learning import first_right, forgotten, never_forgotten, right_for_good, who_was_first
from codistill.metrics.linear_probe import linear_probe
from codistill.metrics.plain import plain
from codistill.metrics.probabilities import ensemble, log_softmax
from codistill.metrics.raw import AnswersOverEpochs, Raw

MOST_EMBEDDINGS = 10_000  # images, evenly spread, for what costs more than one pass over the embeddings
MOST_TRANSFERS = 50  # images that are listed
Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]


def describe(raw: Raw) -> dict[str, Any]:
    """Students, teacher and ensemble; pairs of students; who is right where others are wrong.

    One student has no peer: there is no ensemble then, no pair, and no image that it "alone" has right.
    """
    log_p = {name: log_softmax(logits) for name, logits in raw.logits.items()}
    right = {name: own.argmax(axis=1) == raw.labels for name, own in log_p.items()}
    pairs = list(combinations(raw.students, 2))
    against = [*pairs, *((raw.teacher, name) for name in raw.students if raw.teacher is not None)]
    together = ensemble([log_p[name] for name in raw.students])
    advantages = {}
    for one, other in [*against, *((other, one) for one, other in against)]:
        advantages[f"{one}/{other}"] = _list(right[one] & ~right[other], log_p[one])
    students = {}
    for name in raw.students:
        others = [right[other] for other in raw.students if other != name]
        students[name] = {
            **_voice(log_p[name], raw),
            **_richness(raw.embeddings[name], raw.labels),
            "alone_right": _list(alone(right[name], others) if others else np.zeros_like(right[name]), log_p[name]),
        }
        if raw.teacher is not None:
            agreeing = 1 - disagreement(log_p[name].argmax(axis=1), log_p[raw.teacher].argmax(axis=1))
            students[name]["agreement_with_teacher"] = _percent(agreeing)
    return {
        "images": len(raw.labels),
        "class_names": raw.class_names,
        "class_images": np.bincount(raw.labels, minlength=len(raw.class_names)).tolist(),
        "students": students,
        "teacher": None if raw.teacher is None else {"name": raw.teacher, **_voice(log_p[raw.teacher], raw)},
        "ensemble": _voice(together, raw) if pairs else None,
        "pairs": {
            f"{one}/{other}": {
                **_pair(log_p[one], log_p[other], raw.labels),
                "kl": {
                    f"{one}/{other}": plain(mean_kl(log_p[one], log_p[other]), 5),
                    f"{other}/{one}": plain(mean_kl(log_p[other], log_p[one]), 5),
                },
                "cka": plain(linear_cka(_few(raw.embeddings[one]), _few(raw.embeddings[other])), 4),
            }
            for one, other in pairs
        },
        "advantages": advantages,
    }


def over_epochs(seen: AnswersOverEpochs, students: Sequence[str]) -> dict[str, Any]:
    """Who knew what first, whether it reached the others, what was forgotten: counts of validation images."""
    right = {name: answers == seen.labels for name, answers in seen.answers.items()}
    teachers = [name for name in right if name not in students]
    pairs = [*combinations(students, 2), *((teacher, name) for teacher in teachers for name in students)]
    return {
        "images": len(seen.labels),
        "epochs": seen.epochs,
        "right": {name: own.sum(axis=1).tolist() for name, own in right.items()},
        "forgotten": {name: forgotten(own).tolist() for name, own in right.items()},
        "never_forgotten": {name: never_forgotten(own) for name, own in right.items()},
        "agreement": {
            f"{one}/{other}": [_percent(share) for share in (seen.answers[one] == seen.answers[other]).mean(axis=1)]
            for one, other in pairs
        },
        "first_right": {
            f"{one}/{other}": who_was_first(first_right(right[one]), first_right(right[other]))._asdict()
            for one, other in pairs
        },
        "right_for_good": {
            f"{one}/{other}": who_was_first(right_for_good(right[one]), right_for_good(right[other]))._asdict()
            for one, other in pairs
        },
        "transfers": {
            f"{one}/{other}": _transfers(right[one], right[other], seen)
            for one, other in [*pairs, *((other, one) for one, other in pairs)]
        },
    }


def _voice(log_p: Floats, raw: Raw) -> dict[str, Any]:
    answers, bins = log_p.argmax(axis=1), confidence_bins(log_p, raw.labels)
    return {
        "accuracy": _percent(float((answers == raw.labels).mean())),
        "nll": plain(negative_log_likelihood(log_p, raw.labels), 5),
        "ece": _percent(expected_calibration_error(bins)),
        "calibration": {
            "images": bins.images.tolist(),
            "confidence": [_percent(value) for value in bins.confidence],
            "accuracy": [_percent(value) for value in bins.accuracy],
        },
        "class_accuracy": [_percent(value) for value in class_accuracies(answers, raw.labels, len(raw.class_names))],
        "class_taken_for": taken_for(answers, raw.labels, len(raw.class_names)),
    }


def _richness(embeddings: Floats, labels: NDArray[np.integer]) -> dict[str, Any]:
    few, probed = _few(embeddings), linear_probe(_few(embeddings), _few(labels))
    return {
        "embedding_width": embeddings.shape[1],
        "effective_rank": plain(effective_rank(few), 3),
        "linear_probe": None if probed is None else _percent(probed),
    }


def _pair(log_p: Floats, other: Floats, labels: NDArray[np.integer]) -> dict[str, Any]:
    answers, others = log_p.argmax(axis=1), other.argmax(axis=1)
    both = count_both(answers == labels, others == labels)
    return {
        "disagreement": _percent(disagreement(answers, others)),
        "error_correlation": plain(error_correlation(both), 4),
        "q_statistic": plain(q_statistic(both), 4),
        "double_fault": _percent(double_fault(both)),
    }


def _list(where: Flags, log_p: Floats) -> dict[str, Any]:
    """How many images, and the first of them by the confidence of who is right."""
    return {"share": _percent(float(where.mean())), "images": most_confident(where, log_p.max(axis=1))}


def _transfers(right: Flags, other: Flags, seen: AnswersOverEpochs) -> list[list[int]]:
    """Images that one knew for good first and the other later, longest wait first: [row, epoch, later epoch]."""
    first, later = right_for_good(right), right_for_good(other)
    found = np.flatnonzero((first < later) & other[-1])
    found = found[np.argsort(first[found] - later[found], kind="stable")][:MOST_TRANSFERS]
    return [[seen.every * int(i), seen.epochs[first[i]], seen.epochs[later[i]]] for i in found]


def _few(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[:: -(-len(rows) // MOST_EMBEDDINGS)]


def _percent(share: float) -> float | None:
    return plain(100 * float(share), 4)
