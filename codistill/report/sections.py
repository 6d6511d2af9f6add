"""The sections of a page: what each shows, and what it says instead where there is nothing to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from codistill.report import at_end, images, over_time
from codistill.report.drawing import Figure
from codistill.report.gains import Gain, Pair, command_for_control
from codistill.report.images import Card
from codistill.report.story import Story


@dataclass
class Table:
    """Text in cells. The first column names its row."""

    caption: str
    header: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """A heading with what is below it. ``missing``: lines of (what is not here, the command that would make it)."""

    key: str
    title: str
    lead: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    cards: Sequence[Card] = ()
    missing: list[tuple[str, str]] = field(default_factory=list)
    folded: str = ""  # plain text that is shown on demand
    chips: Sequence[str] = ()

    @property
    def filled(self) -> bool:
        return bool(self.figures or self.tables or self.cards or self.folded or self.lead)


def sections_of(story: Story, pair: Pair | None, control: Story | None, gained: Mapping[str, Gain]) -> list[Section]:
    """Everything that is told of one run."""
    return [
        _accuracy(story, control, gained),
        _losses(story),
        _richness_and_diversity(story),
        _likeness(story),
        _contributions(story),
        _classes(story, pair, control),
        _fixed(story, pair),
        _calibration(story),
        _cost(story),
        _warnings(story),
        _configuration(story),
    ]


def _analyse(story: Story) -> tuple[str, str]:
    if not story.finished:
        return "It needs a finished run.", f"codistill train --resume {story.path}"
    return "It needs the run's analysis.", f"codistill analyse {story.path}"


def _accuracy(story: Story, control: Story | None, gained: Mapping[str, Gain]) -> Section:
    section = Section("accuracy", "Accuracy")
    curve = over_time.accuracy(story.name, story.epochs, story.students)
    section.figures = [curve] if curve else []
    if story.epochs and not curve:
        section.missing.append(("No validation images, so no curves.", f"codistill train {story.path}/config.yaml data.validation=0.1"))  # fmt: skip
    if not story.epochs:
        section.missing.append(("No epoch is done yet.", f"codistill report {story.path} --watch"))
    if story.summary is not None:
        section.tables = [_accuracy_table(story, control, gained)]
    return section


def _accuracy_table(story: Story, control: Story | None, gained: Mapping[str, Gain]) -> Table:
    assert story.summary is not None
    test = story.summary["test_accuracy"]
    validation = story.summary.get("validation_accuracy") or {}
    theirs = control.summary["test_accuracy"] if control and control.summary else None
    rows = []
    for name, own in test["students"].items():
        alone = theirs["students"].get(name) if theirs else None
        rows.append([name, own, validation.get("students", {}).get(name), alone])
    if test["teacher"] is not None:
        rows.append(["teacher", test["teacher"], validation.get("teacher"), None])
    rows.append(["ensemble", test["ensemble"], validation.get("ensemble"), theirs["ensemble"] if theirs else None])
    header = ["", "test", "validation", *(["control", "gain"] if theirs else [])]
    cells = []
    for name, own, on_validation, alone in rows:
        line = [name, number(own), number(on_validation)]
        if theirs:
            line += [number(alone), "" if alone is None else f"{own - alone:+.2f}"]
        cells.append(line)
    caption = "Accuracy after the last epoch, percent"
    return Table(caption + (f"; control: {control.name}" if theirs and control else ""), header, cells)


def _losses(story: Story) -> Section:
    section = Section("losses", "Losses")
    if not story.epochs:
        section.missing.append(("No epoch is done yet.", f"codistill report {story.path} --watch"))
        return section
    share = over_time.weighted_shares(story.name, story.epochs)
    section.figures = [*([share] if share else []), *over_time.losses(story.name, story.epochs, story.students)]
    last = story.epochs[-1]
    weights = last.get("weights") or {}
    losses = {name: value for name, value in last["losses"].items() if name != over_time.TOTAL}
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
        section.missing.append(("This run, of an earlier version, did not log its weights.", f"codistill train {story.path}/config.yaml run=NEW"))  # fmt: skip
    return section


def _richness_and_diversity(story: Story) -> Section:
    section = Section("diversity", "Richness and diversity")
    if story.epochs:
        rich = over_time.richness(story.name, story.epochs, story.students)
        section.figures = [*([rich] if rich else []), *over_time.diversity(story.name, story.epochs)]
    analysis = story.analysis
    if analysis is None:
        section.missing.append(_analyse(story))
        return section
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
    section.tables = [
        Table(f"Each student on {analysis['images']:,} test images", heads, students),
        Table("Each pair of students", ["", "CKA", "disagreement %", "error correlation", "both wrong %"], pairs),
    ]
    return section


def _likeness(story: Story) -> Section:
    section = Section("likeness", "Likeness of stages")
    figure = at_end.stage_cka(story.name, story.analysis) if story.analysis else None
    section.figures = [figure] if figure else []
    if not figure:
        section.missing.append(_analyse(story))
    return section


def _contributions(story: Story) -> Section:
    section = Section("contributions", "What each student contributed")
    section.cards = images.contributions(story)
    cpm = (story.analysis or {}).get("cpm")
    if cpm:
        section.lead = (
            "Colour is strong where much of the Collaborative Processing Module's fused map comes from that student "
            "(with the student's share of the image), and where the others looked in its map. Attention is not importance."
        )
        rows = [[name, number(cpm["trust"].get(name)), number(cpm["contribution"].get(name))] for name in cpm["trust"]]
        section.tables = [Table("Over the test images", ["", "trust", "contribution %"], rows)]
    elif story.config["method"]["name"] != "collaborative":
        section.missing.append(("Only method=collaborative has a module whose attention could be shown.", f"codistill train {story.path}/config.yaml method=collaborative run=NEW"))  # fmt: skip
    else:
        section.missing.append(_analyse(story))
    return section


def _classes(story: Story, pair: Pair | None, control: Story | None) -> Section:
    section = Section("classes", "Gain by class")
    if pair is None or control is None:
        section.missing.append(("It needs a control.", _control(story)))
    elif story.analysis is None or control.analysis is None:
        lacking = [one.path for one in (story, control) if one.analysis is None]
        section.missing.append(("It needs the analysis of both.", f"codistill analyse {' '.join(map(str, lacking))}"))
    else:
        figure = at_end.class_gains(story.name, story.analysis, control.analysis)
        section.figures = [figure] if figure else []
    return section


def _fixed(story: Story, pair: Pair | None) -> Section:
    section = Section("fixed", "Confusions that co-training fixed")
    section.cards = images.fixed(story)
    if story.fixed is not None:
        rows = [
            [name, str(counts["fixed"]), str(counts["broken"]), str(counts["images"])]
            for name, counts in story.fixed.about["counts"].items()
        ]
        section.lead = (
            "Test images that the control got wrong and the student gets right, those first of which it is surest; "
            "answer alone → answer together. Chosen for the difference: the table counts both directions."
        )
        heads = ["", "fixed", "broken", "test images"]
        section.tables = [Table(f"Against {story.fixed.about['control']}", heads, rows)]
    elif pair is None:
        section.missing.append(("It needs a control.", _control(story)))
    else:
        section.missing.append(("It needs both analysed together.", f"codistill analyse {pair.control} {pair.run}"))
    return section


def _control(story: Story) -> str:
    return command_for_control(story.path)


def _calibration(story: Story) -> Section:
    section = Section("calibration", "Calibration")
    if story.analysis is None:
        section.missing.append(_analyse(story))
    else:
        section.lead = "Who is sure to 80 % should be right 80 times out of 100: on the diagonal. Dots grow with images."
        section.figures = at_end.calibration(story.name, story.analysis)
    return section


def _cost(story: Story) -> Section:
    section = Section("cost", "Cost")
    summary = story.summary
    if summary is None:
        if story.last is not None:
            speed = story.last.get("images_per_second")
            section.lead = f"{number(speed, 1)} images/s so far." if speed else ""
        section.missing.append(("The run is not finished.", f"codistill train --resume {story.path}"))
        return section
    students = summary["parameters"]["students"]
    training_only = summary["parameters"]["training_only"]
    together = max(sum(students.values()), 1)
    peak = summary.get("peak_memory_bytes")
    counted = summary.get("images", {})
    rows = [
        ["images per second", number(summary.get("images_per_second"), 1)],
        ["seconds, of them training", f"{summary['seconds']:,.1f}, {number(summary.get('training_seconds'), 1)}"],
        ["peak memory, MiB", f"{peak / 2**20:,.0f}" if peak else "not measured"],
        *([f"parameters of {name}", f"{count:,}"] for name, count in students.items()),
        ["parameters for training only", f"{training_only:,} ({training_only / together:.2f} x the students')"],
        ["images: train, validation, test", ", ".join(f"{count:,}" for count in counted.values())],
        ["device", f"{summary.get('device', '')}; processes: {summary.get('processes', 1)}"],
    ]
    section.tables = [Table("What training took, and what stays", ["", ""], rows)]
    return section


def _warnings(story: Story) -> Section:
    told = (story.summary or {}).get("warnings") or []
    told = told or list(dict.fromkeys(text for epoch in story.epochs for text in epoch.get("warnings") or []))
    return Section("warnings", "Warnings", lead="" if told else "None.", chips=told)


def _configuration(story: Story) -> Section:
    section = Section("configuration", "Configuration")
    facts = story.summary or {}
    versions = {**facts.get("versions", {}), **({"commit": facts["commit"]} if facts.get("commit") else {})}
    rows = [["again", f"codistill train {story.path}/config.yaml run=NEW"]]
    rows += [["this page", f"codistill report {story.path}"]]
    rows += [[name, str(value)] for name, value in versions.items()]
    if story.analysis and "command" in story.analysis:
        rows.append(["analysis", str(story.analysis["command"])])
    section.tables = [Table("Commands and versions", ["", ""], rows)]
    section.folded = yaml.safe_dump(story.config, sort_keys=False, allow_unicode=True)
    return section


def number(value: Any, digits: int = 2) -> str:
    """With so many decimals; empty for what is not known."""
    return "" if value is None else f"{value:,.{digits}f}"
