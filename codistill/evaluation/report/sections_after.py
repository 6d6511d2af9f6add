"""Sections of a finished run: what each student contributed, what that fixed, how sure they are, what it cost."""

from collections.abc import Sequence

import yaml

from codistill.evaluation.compare.controls import command_for_control
from codistill.evaluation.compare.rows import Row
from codistill.evaluation.report import figures_final, images
from codistill.evaluation.report.parts import Section, Table, command, how_to_analyse, number
from codistill.evaluation.report.run_record import Pictures, Story


def contributions(story: Story) -> Section:
    section = Section("contributions", "What each student contributed")
    section.cards = images.contributions(story)
    cpm = (story.analysis or {}).get("cpm")
    if cpm:
        section.lead = (
            "Colour is strong where much of the Collaborative Processing Module's fused map comes from that student "
            "(with its share of the image), and where the others looked in its map. Attention is not importance."
        )
        rows = [[name, number(cpm["trust"].get(name)), number(cpm["contribution"].get(name))] for name in cpm["trust"]]
        section.tables = [Table("Over the test images", ["", "trust", "contribution %"], rows)]
    elif story.config["method"]["name"] != "collaborative":
        how = command("train", story.path / "config.yaml", "method=collaborative", "run=NEW")
        section.missing.append(("Only method=collaborative has a module whose attention could be shown.", how))
    else:
        section.missing.append(how_to_analyse(story))
    return section


def fixed(story: Story, row: Row | None, control: Story | None) -> Section:
    """row: of a finished run, for the command of a control."""
    section = Section("fixed", "What learning together fixed")
    if control is None:
        how = ("It needs a control.", command_for_control([row])) if row else how_to_analyse(story)
        section.missing.append(how)
        return section
    if story.analysis and control.analysis:
        gains = figures_final.class_gains(story.name, story.analysis, control.analysis)
        section.figures = [gains] if gains else []
    if story.fixed is None or not _is_of(story.fixed, story, control):
        section.missing.append(("It needs both analysed together.", command("analyse", control.path, story.path)))
        return section
    section.cards = images.fixed(story)
    section.lead = (
        "Images: the control got them wrong and the student gets them right, surest first; answer alone → answer "
        "together. They are chosen for that difference; the table counts both directions."
    )
    counted = story.fixed.about["counts"]
    rows = [[name, *(str(counts[kind]) for kind in ("fixed", "broken", "images"))] for name, counts in counted.items()]
    caption = f"Test images that only the student has right (fixed), or only the control (broken); it is {control.name}"
    section.tables = [Table(caption, ["", "fixed", "broken", "of"], rows)]
    return section


def _is_of(pictures: Pictures, story: Story, control: Story) -> bool:
    """Whether both runs still have the weights that were looked at: another control fixes other images."""
    looked_at = [pictures.about.get(key) for key in ("sha256", "control_sha256")]
    return looked_at == [(of.summary or {}).get("sha256", {}) for of in (story, control)]


def calibration(story: Story) -> Section:
    section = Section("calibration", "Calibration")
    if story.analysis is None:
        section.missing.append(how_to_analyse(story))
    else:
        section.lead = (
            "Who is sure to 80 % should be right 80 times out of 100: on the diagonal. Dots grow with images."
        )
        section.figures = figures_final.calibration(story.name, story.analysis)
    return section


def cost(story: Story) -> Section:
    section = Section("cost", "Cost")
    summary = story.summary
    if summary is None:
        if story.last is not None:
            speed = story.last.get("images_per_second")
            section.lead = f"{number(speed, 1)} images/s so far." if speed else ""
        how = "" if story.training else command("train", "--resume", story.path)
        section.missing.append(("The run is not finished.", how))
        return section
    students = summary["parameters"]["students"]
    training_only = summary["parameters"]["training_only"]
    together = max(sum(students.values()), 1)
    peak, processor = summary.get("peak_memory_bytes"), summary.get("processor_seconds")
    counted = summary.get("images", {})
    rows = [
        ["images per second", number(summary.get("images_per_second"), 1)],
        ["seconds, of them training", f"{summary['seconds']:,.1f}, {number(summary.get('training_seconds'), 1)}"],
        *([["seconds of the processor, training", number(processor, 1)]] if processor is not None else []),
        ["peak memory, MiB", f"{peak / 2**20:,.0f}" if peak else "not measured"],
        *([f"parameters of {name}", f"{count:,}"] for name, count in students.items()),
        ["parameters for training only", f"{training_only:,} ({training_only / together:.2f} x the students')"],
        ["images: train, validation, test", ", ".join(f"{count:,}" for count in counted.values())],
        ["device", f"{summary.get('device', '')}; processes: {summary.get('processes', 1)}"],
    ]
    section.tables = [Table("What training took, and what stays", ["", ""], rows)]
    return section


def warnings(story: Story, others: Sequence[Story]) -> Section:
    """``others``: runs of the same row, whose warnings are told where this run had none like them."""
    told = _warnings(story)
    for other in others:
        told += [f"{other.name}: {text}" for text in _warnings(other) if text not in told]
    return Section("warnings", "Warnings", lead="" if told else "None.", points=told)


def _warnings(story: Story) -> list[str]:
    of_epochs = dict.fromkeys(text for epoch in story.epochs for text in epoch.get("warnings") or [])
    return list((story.summary or {}).get("warnings") or of_epochs)


def configuration(story: Story) -> Section:
    section = Section("configuration", "Configuration")
    facts = story.summary or {}
    versions = {**facts.get("versions", {}), **({"commit": facts["commit"]} if facts.get("commit") else {})}
    rows = [["again", command("train", story.path / "config.yaml", "run=NEW")]]
    rows += [["this page", command("report", story.path)]]
    rows += [[name, str(value)] for name, value in versions.items()]
    if story.analysis and "command" in story.analysis:
        rows.append(["analysis", str(story.analysis["command"])])
    section.tables = [Table("Commands and versions", ["", ""], rows)]
    section.folded = yaml.safe_dump(story.config, sort_keys=False, allow_unicode=True)
    return section
