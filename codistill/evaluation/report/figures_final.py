"""Figures of finished runs: calibration, likeness of stages, gains over the control, by class and in all."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.patches import Rectangle

from codistill.evaluation.compare.differences import Difference
from codistill.evaluation.report.drawing import HEIGHT, Figure, draw, short
from codistill.evaluation.report.palette import INK, LIGHT, MUTED, SURFACE, series
from codistill.evaluation.report.parts import signed, told
from codistill.storage.run_files import told_apart

Analysis = Mapping[str, Any]
BLUES = LinearSegmentedColormap.from_list("blues", ["#eef4fa", "#9cc3e4", "#3a83c0", "#08406f"])  # darker is more
MOST_NUMBERS = 10  # rows of a heat map that still leave room for numbers in its cells
MOST_CLASSES = 24  # that are drawn


def calibration(run: str, analysis: Analysis) -> list[Figure]:
    """A reliability diagram for each student, and for teacher and ensemble if there are."""
    students = enumerate(analysis["students"].items())
    voices = [(told_apart(name), series(place), voice) for place, (name, voice) in students]
    voices += [(name, LIGHT[name], analysis[name]) for name in ("teacher", "ensemble") if analysis[name] is not None]
    return [_reliability(run, *voice) for voice in voices]


def stage_cka(run: str, analysis: Analysis) -> Figure | None:
    """Likeness of every stage of every student with every other."""
    found = analysis.get("stage_cka")
    if not found or not found["layers"]:
        return None
    layers, values = found["layers"], found["values"]

    def plot(axes: Axes) -> None:
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                shown = BLUES(min(max(value or 0.0, 0.0), 1.0))
                axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, facecolor=to_hex(shown), linewidth=0))
                if len(layers) <= MOST_NUMBERS:
                    ink = "#ffffff" if (value or 0.0) > 0.55 else "#101418"
                    text = "" if value is None else f"{value:.2f}".lstrip("0")
                    axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=9.5)
        axes.set(xlim=(-0.5, len(layers) - 0.5), ylim=(len(layers) - 0.5, -0.5), aspect="equal")
        names = [short(layer, 18) for layer in layers]
        axes.set_xticks(range(len(layers)), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(layers)), names)
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)

    highest = max(
        ((values[i][j] or 0.0, layers[i], layers[j]) for i in range(len(layers)) for j in range(i)),
        default=(0.0, "", ""),
    )
    return draw(
        f"{run}_stage_cka",
        "Likeness of stages: CKA",
        plot,
        alt=f"Heat map of linear CKA between {len(layers)} stages. The likest two: {highest[1]} and {highest[2]}, "
        f"{highest[0]:.2f}.",
        note="Darker is more alike; student/stage. First stages of any two networks are alike.",
        height=4.6 if len(layers) > 4 else HEIGHT,
    )


def class_gains(run: str, analysis: Analysis, control: Analysis) -> Figure | None:
    """By how much each class is better than in the control: students' mean."""
    names = analysis["class_names"]
    if names != control["class_names"]:
        return None
    ours, theirs = (_class_means(one) for one in (analysis, control))
    gains = [(name, a - b) for name, a, b in zip(names, ours, theirs, strict=True) if a is not None and b is not None]
    if not gains:
        return None
    gains.sort(key=lambda gain: gain[1])
    most = MOST_CLASSES // 2
    shown = gains if len(gains) <= MOST_CLASSES else [*gains[:most], *gains[-most:]]

    def plot(axes: Axes) -> None:
        heights = range(len(shown))
        colours = [series(0) if gain >= 0 else series(1) for _, gain in shown]
        axes.barh(heights, [gain for _, gain in shown], color=colours, height=0.66)
        axes.axvline(0, color=LIGHT[MUTED], linewidth=1)
        axes.set_yticks(heights, [short(name) for name, _ in shown])
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.margins(x=0.17, y=0.02)
        axes.set_xlabel("percent points")
        for height, (_, gain) in enumerate(shown):
            side = "left" if gain >= 0 else "right"
            axes.annotate(
                signed(gain, 1), (gain, height), xytext=(4 if gain >= 0 else -4, 0), textcoords="offset points",
                ha=side, va="center", fontsize=10, color=LIGHT[INK],
            )  # fmt: skip

    better = sum(gain > 0 for _, gain in gains)
    worse = sum(gain < 0 for _, gain in gains)
    part = "" if len(shown) == len(gains) else f" Of {len(gains)} classes, the {most} best and the {most} worst."
    return draw(
        f"{run}_class_gains",
        "Gain by class",
        plot,
        alt=f"Gain of each class over the control. {better} of {len(gains)} classes are better, {worse} worse. Most: "
        f"{gains[-1][0]} {gains[-1][1]:+.1f}; least: {gains[0][0]} {gains[0][1]:+.1f} points.",
        note=f"Test accuracy, mean of the students, minus the control's.{part}",
        height=max(2.4, 0.27 * len(shown) + 0.9),
    )


def gains_over_control(name: str, title: str, gains: Sequence[tuple[str, Difference]]) -> Figure | None:
    """A forest plot: by how much each row, by its label, is better than its control, with the interval."""
    if not gains:
        return None

    def plot(axes: Axes) -> None:
        for place, (_, gain) in enumerate(gains):
            height = len(gains) - 1 - place
            colour = series(0) if gain.mean >= 0 else series(1)
            if gain.interval is not None:
                axes.plot(gain.interval, [height, height], color=colour, linewidth=2.4)
            axes.plot([gain.mean], [height], "o", color=colour, markersize=7)
            for seed in gain.by_seed:
                axes.plot([seed], [height - 0.22], "|", color=LIGHT[MUTED], markersize=6)
            axes.annotate(
                signed(gain.mean), (gain.mean, height), xytext=(0, 7), textcoords="offset points", ha="center",
                fontsize=10, color=LIGHT[INK],
            )  # fmt: skip
        axes.axvline(0, color=LIGHT[MUTED], linewidth=1)
        axes.set_yticks(range(len(gains)), [short(label, 28) for label, _ in reversed(gains)])
        axes.set_ylim(-0.6, len(gains) - 0.35)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.set_xlabel("percent points")

    said = "; ".join(f"{label} {told(gain)}" for label, gain in gains)
    return draw(
        name,
        title,
        plot,
        alt=f"{title}, in test accuracy: {said}.",
        note="Students' mean. Dot: mean over seeds; line: 95 % interval; ticks: single seeds.",
        height=max(2.2, 0.55 * len(gains) + 1.1),
    )


def _reliability(run: str, name: str, colour: str, voice: Analysis) -> Figure:
    bins = voice["calibration"]
    images = bins["images"]
    each = zip(bins["confidence"], bins["accuracy"], images, strict=True)
    filled = [(confidence, accuracy, count) for confidence, accuracy, count in each if count]

    def plot(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=LIGHT[MUTED], linewidth=1, linestyle=(0, (3, 3)))
        largest = max((count for _, _, count in filled), default=1)
        sizes = [12 + 150 * count / largest for _, _, count in filled]
        axes.plot([c for c, _, _ in filled], [a for _, a, _ in filled], color=colour, linewidth=1.2, alpha=0.6)
        axes.scatter(
            [c for c, _, _ in filled], [a for _, a, _ in filled], s=sizes, color=colour, zorder=3,
            edgecolor=LIGHT[SURFACE], linewidth=1, clip_on=False,
        )  # fmt: skip
        axes.text(3, 97, f"ECE {voice['ece']:.1f} %\nNLL {voice['nll']:.2f}", va="top", color=colour, fontsize=11)
        axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="confidence, %", ylabel="accuracy, %")
        axes.grid(True)

    return draw(
        f"{run}_calibration_{name}",
        short(name),
        plot,
        alt=f"Reliability diagram of {name}: expected calibration error {voice['ece']:.1f} percent over {sum(images)} "
        "images.",
        height=3.6,
        width=4.2,
    )


def _class_means(analysis: Analysis) -> list[float | None]:
    columns = zip(*(student["class_accuracy"] for student in analysis["students"].values()), strict=True)
    return [None if None in column else float(np.mean(column)) for column in columns]
