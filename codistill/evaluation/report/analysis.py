"""Tables of what students learned, from analysis.json alone: mean and deviation where runs differ only by seed."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from codistill.errors.printable import printable
from codistill.evaluation.compare.rows import Row, mean_and_deviation
from codistill.storage import run_files

Analysis = dict[str, Any]
Table = tuple[list[str], list[list[str]]]  # header and cells

# Of each voice (a student, the teacher, the ensemble): name -> its key in analysis.json, decimals, and what it means.
VOICES: dict[str, tuple[str, int, str]] = {
    "accuracy %": ("accuracy", 2, "images answered rightly"),
    "NLL": ("nll", 3, "mean of -log p(label) in nats; punishes being sure and wrong"),
    "ECE %": ("ece", 2, "how far confidence is from accuracy, 15 bins; 0 is calibrated"),
    "effective rank": ("effective_rank", 1, "directions that the embeddings use; near 1 they have collapsed"),
    "linear probe %": ("linear_probe", 2, "right answers of a linear classifier fitted to half of these embeddings"),
    "agreement %": ("agreement_with_teacher", 2, "images that the student answers as the teacher does"),
}
# Of each pair of students.
PAIRS: dict[str, tuple[str, int, str]] = {
    "CKA": ("cka", 3, "likeness of the embeddings; 1 is equal up to rotation and scale: little left to teach"),
    "disagreement %": ("disagreement", 2, "images that get different answers"),
    "error correlation": ("error_correlation", 3, "1: they fail on the same images; 0: independently of each other"),
    "Q": ("q_statistic", 3, "another measure of the same, which saturates near 1 where both are good"),
    "double fault %": ("double_fault", 2, "images that both have wrong: nobody can teach them"),
}
MOST_CLASSES = 5  # that are named of each student
HARDLY_BETTER = 2  # points of accuracy
ORDER = {
    "first, later second": "first_then_second",
    "second, later first": "second_then_first",
    "together": "together",
    "first only": "first_only",
    "second only": "second_only",
    "neither": "neither",
}


class Group(NamedTuple):
    """Runs that differ only in their seed, and what was found of each."""

    row: Row
    analyses: list[Analysis]


def read_groups(rows: Sequence[Row], split: str) -> list[Group]:
    """The analyses of rows of ``codistill.evaluation.compare.rows``. Raises UserError where one was not made."""
    return [Group(row, [run_files.read_analysis(run, split) for run in row.runs]) for row in rows]


def title(group: Group) -> str:
    """``dml, tasks none: runs/a, runs/b (599 test images)``."""
    first = group.analyses[0]
    runs = ", ".join(map(str, group.row.runs))
    return f"{group.row.method}, tasks {group.row.tasks}: {runs} ({first['images']:,} {first['data']} images)"


def voices(analyses: Sequence[Analysis]) -> Table:
    """A line for each number, a column for each student, the teacher and the ensemble."""
    first = analyses[0]
    students, teacher = list(first["students"]), first["teacher"]
    columns: dict[str, Callable[[Analysis], Any]] = {run_files.told_apart(name): _student(name) for name in students}
    if teacher is not None:
        columns[f"teacher {teacher['name']}"] = lambda analysis: analysis["teacher"]
    if first["ensemble"] is not None:
        columns["ensemble"] = lambda analysis: analysis["ensemble"]
    cells = []
    for label, (key, digits, _) in VOICES.items():
        line = [_cell([pick(analysis).get(key) for analysis in analyses], digits) for pick in columns.values()]
        if key == "effective_rank":
            widths = [first["students"][name]["embedding_width"] for name in students]
            line = [f"{cell} of {width}" for cell, width in zip(line, widths, strict=False)] + line[len(students) :]
        cells.append([label, *line])
    if teacher is not None:
        for label, key in (
            ("teacher right, student wrong %", "{teacher}/{student}"),
            ("student right, teacher wrong %", "{student}/{teacher}"),
        ):
            keys = [key.format(teacher=teacher["name"], student=name) for name in students]
            shares = [[analysis["advantages"][own]["share"] for analysis in analyses] for own in keys]
            cells.append([label, *(_cell(of_student, 2) for of_student in shares), "", ""])
    cells = [line for line in cells if any(line[1:])]
    return ["", *columns], cells


def pairs(analyses: Sequence[Analysis]) -> Table | None:
    """A line for each number, a column for each pair of students. None of one student."""
    names = list(analyses[0]["pairs"])
    if not names:
        return None
    cells = []
    for label, (key, digits, _) in PAIRS.items():
        cells.append([label, *(_cell([a["pairs"][pair][key] for a in analyses], digits) for pair in names)])
    for label, way in (("KL(first, second)", 0), ("KL(second, first)", 1)):
        values = [[list(a["pairs"][pair]["kl"].values())[way] for a in analyses] for pair in names]
        cells.append([label, *(_cell(of_pair, 4) for of_pair in values)])
    return ["", *names], cells


def weakest_classes(analyses: Sequence[Analysis]) -> Table | None:
    """The classes that each student gets right least often, and for what it takes most of their images instead.

    None if all get all images right. Analyses of earlier versions do not say for what.
    """
    first = analyses[0]
    cells = []
    for student in first["students"]:
        voices = [analysis["students"][student] for analysis in analyses]
        seen = [voice["class_accuracy"] for voice in voices]
        instead = _taken_for(voices, first["class_names"])
        own = [
            (fmean(of_class), _cell(of_class, 2), name, images, other)
            for *of_class, name, images, other in zip(
                *seen, first["class_names"], first["class_images"], instead, strict=True
            )
            if images and fmean(of_class) < 100
        ]
        for place, (_, told, name, images, other) in enumerate(sorted(own, key=lambda line: line[0])[:MOST_CLASSES]):
            cells.append(["" if place else student, printable(name), told, f"{images:,}", other])
    return (["least often right", "class", "right %", "images", "most taken for"], cells) if cells else None


def _taken_for(voices: Sequence[dict[str, Any]], class_names: Sequence[str]) -> list[str]:
    """``dog (7)`` for each class: the wrong answer that is most frequent in a run, and to how many of its images."""
    told = ["" for _ in class_names]
    for number in range(len(class_names)):
        found = [voice["class_taken_for"][number] for voice in voices if "class_taken_for" in voice]
        if known := [pair for pair in found if pair is not None]:
            other, images = max(known, key=lambda pair: pair[1])
            told[number] = f"{printable(class_names[other])} ({images:,})"
    return told


def no_better_than_one_answer(analyses: Sequence[Analysis]) -> str | None:
    """Of students that are hardly better than whoever always gives the most frequent class; None if there are none."""
    first = analyses[0]
    most = max(first["class_images"])
    share = 100 * most / sum(first["class_images"])
    name = printable(first["class_names"][first["class_images"].index(most)])
    means = {of: fmean(analysis["students"][of]["accuracy"] for analysis in analyses) for of in first["students"]}
    told = ", ".join(f"{student} {mean:.2f} %" for student, mean in means.items() if mean <= share + HARDLY_BETTER)
    return (
        f"Always '{name}' would be {share:.2f} %, and {told}: look at the classes, not at accuracy." if told else None
    )


def who_was_first(analyses: Sequence[Analysis]) -> Table | None:
    """A line for each pair: how many validation images one knew for good before the other.

    None without history, and of one student.
    """
    seen = [analysis["over_epochs"] for analysis in analyses]
    if any(history is None or not history["right_for_good"] for history in seen):
        return None
    names = list(seen[0]["right_for_good"])
    cells = [
        [pair, *(_cell([history["right_for_good"][pair][key] for history in seen], 0) for key in ORDER.values())]
        for pair in names
    ]
    return ["right for good", *ORDER], cells


def comparison(groups: Sequence[Group]) -> Table:
    """A line for each group: means over its students or pairs of students, then over seeds."""
    header = ["method", "tasks", "seeds", *(f"students' {label}" for label in VOICES), *PAIRS, "KL", "ensemble %"]
    settings = any(group.row.settings for group in groups)
    cells = []
    for row, analyses in groups:
        line = [row.method, row.tasks, str(len(analyses))]
        for key, digits, _ in VOICES.values():
            line.append(_cell([_mean(s.get(key) for s in a["students"].values()) for a in analyses], digits))
        for key, digits, _ in PAIRS.values():
            line.append(_cell([_mean(pair[key] for pair in a["pairs"].values()) for a in analyses], digits))
        kls = [_mean(kl for pair in a["pairs"].values() for kl in pair["kl"].values()) for a in analyses]
        line += [_cell(kls, 4), _cell([a["ensemble"]["accuracy"] for a in analyses if a["ensemble"]], 2)]
        if settings:
            line.append(", ".join(f"{key}={value}" for key, value in row.settings.items()))
        cells.append(line)
    return [*header, *(["also differs"] if settings else [])], cells


def meanings(groups: Sequence[Group]) -> list[str]:
    """One line for each number; those of pairs only where there are some."""
    lines = [f"{label}: {meaning}." for label, (_, _, meaning) in VOICES.items()]
    if any(analysis["pairs"] for group in groups for analysis in group.analyses):
        lines += [f"{label}: {meaning}." for label, (_, _, meaning) in PAIRS.items()]
        lines.append("KL(p, q): nats by which q is surprised at what p believes, mean over images.")
    return lines


def _student(name: str) -> Callable[[Analysis], Any]:
    return lambda analysis: analysis["students"][name]


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _cell(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return mean_and_deviation(known, digits) if known else ""
