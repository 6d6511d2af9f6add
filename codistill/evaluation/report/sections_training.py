"""Sections that fill while a run goes on: accuracy, losses, richness and diversity."""

from collections.abc import Callable, Mapping
from typing import Any

from codistill.evaluation.report import figures_final, figures_training
from codistill.evaluation.report.parts import Section, Table, command, how_to_analyse, number, signed
from codistill.evaluation.report.run_record import Story
from codistill.storage.run_files import told_apart


def accuracy(story: Story, control: Story | None, plain: Story | None) -> Section:
    """control: without teaching, if there is one. plain: training without tasks, too."""
    section = Section("accuracy", "Accuracy")
    curve = figures_training.accuracy(story.name, story.epochs, story.students)
    section.figures = [curve] if curve else []
    if story.epochs and not curve:
        how = command("train", story.path / "config.yaml", "data.validation=0.1", "run=NEW")
        section.missing.append(("No validation images, so no curves.", how))
    if not story.epochs:
        section.missing.append(_why_no_epochs(story))
    if story.summary is not None:
        same = control is None or (plain is not None and control.path == plain.path)
        controls = {"plain": plain, **({} if same else {"without teaching": control})}
        section.tables = [_accuracy_table(story, {name: own for name, own in controls.items() if own and own.summary})]
    return section


def _accuracy_table(story: Story, controls: Mapping[str, Story]) -> Table:
    assert story.summary is not None
    test, validation = story.summary["test_accuracy"], story.summary.get("validation_accuracy") or {}
    rows = [(told_apart(name), _of_student(name)) for name in test["students"]]
    rows += [("teacher", lambda accuracy: accuracy.get("teacher"))] if test["teacher"] is not None else []
    rows += [("ensemble", lambda accuracy: accuracy.get("ensemble"))] if test["ensemble"] is not None else []
    cells = []
    for name, of in rows:
        line = [name, number(of(test)), number(of(validation))]
        for control in controls.values():
            own, alone = of(test), of((control.summary or {})["test_accuracy"])
            line.append("" if own is None or alone is None else f"{number(alone)} ({signed(own - alone)})")
        cells.append(line)
    named = "; ".join(f"{name}: {control.name}" for name, control in controls.items())
    caption = "Accuracy after the last epoch, percent"
    caption += f"; of controls on test images, and in brackets this run minus it ({named})" if named else ""
    return Table(caption, ["", "test", "validation", *controls], cells)


def _of_student(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda accuracy: accuracy.get("students", {}).get(name)


def _why_no_epochs(story: Story) -> tuple[str, str]:
    """Why there are no curves, and the command that makes some."""
    if story.summary is None:
        watch, go_on = command("report", story.path, "--watch"), command("train", "--resume", story.path)
        return "No epoch is done yet.", watch if story.training else go_on
    how = command("train", story.path / "config.yaml", "run=NEW")
    return "The run is finished, but its metrics.jsonl is not in its folder, so no curves.", how


def losses(story: Story) -> Section:
    section = Section("losses", "Losses")
    if not story.epochs:
        section.missing.append(_why_no_epochs(story))
        return section
    share = figures_training.weighted_shares(story.name, story.epochs, story.students)
    section.figures = [*([share] if share else []), *figures_training.losses(story.name, story.epochs, story.students)]
    section.lead = "Means over each epoch, before they are weighed; logarithmic."
    last = story.epochs[-1]
    weights = last.get("weights") or {}
    losses = {name: value for name, value in last["losses"].items() if name != figures_training.TOTAL}
    whole = sum(abs(value * weights.get(name, 0.0)) for name, value in losses.items())
    rows = []
    for name, value in losses.items():
        weight = weights.get(name)
        part = None if weight is None else value * weight
        share_of = "" if part is None or not whole else f"{100 * abs(part) / whole:.1f}"
        rows.append([name, number(value, 4), number(weight, 3), number(part, 4), share_of])
    section.tables = [
        Table(
            f"Losses of epoch {last['epoch']}",
            ["loss", "value", "weight", "weighted", "share %"],
            rows if weights else [row[:2] for row in rows],
        )
    ]
    if not weights:
        section.tables[0].header = ["loss", "value"]
        how = command("train", story.path / "config.yaml", "run=NEW")
        section.missing.append(("This run, of an earlier version, did not log its weights.", how))
    return section


def richness_and_diversity(story: Story) -> Section:
    section = Section("diversity", "Richness and diversity")
    if story.epochs:
        rich = figures_training.richness(story.name, story.epochs, story.students)
        section.figures = [*([rich] if rich else []), *figures_training.diversity(story.name, story.epochs)]
    analysis = story.analysis
    if analysis is None:
        section.missing.append(how_to_analyse(story))
        return section
    if likeness := figures_final.stage_cka(story.name, analysis):
        section.figures = [*section.figures, likeness]
    students = [
        [
            name,
            f"{number(own['effective_rank'], 1)} of {own['embedding_width']}",
            number(own["linear_probe"]),
            number(own["alone_right"]["share"]),
            number(own.get("agreement_with_teacher")),
        ]
        for name, own in analysis["students"].items()
    ]
    pairs = [
        [
            name,
            number(own["cka"], 3),
            number(own["disagreement"]),
            number(own["error_correlation"], 3),
            number(own["double_fault"]),
        ]
        for name, own in analysis["pairs"].items()
    ]
    heads = ["", "effective rank", "linear probe %", "alone right %", "agrees with teacher %"]
    if not pairs:  # of one student the others say nothing
        heads, students = heads[:3], [row[:3] for row in students]
    section.tables = [Table(f"Each student on {analysis['images']:,} test images", heads, students)]
    if pairs:
        heads = ["", "CKA", "disagreement %", "error correlation", "both wrong %"]
        section.tables.append(Table("Each pair of students", heads, pairs))
    return section
