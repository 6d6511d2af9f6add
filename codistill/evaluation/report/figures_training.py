"""Figures over epochs: how accurate everybody was, what the losses were, how rich and how different students were."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from codistill.evaluation.report.drawing import Figure, draw, epochs_axis, label_ends, limits, short
from codistill.evaluation.report.palette import DASHES, LIGHT, series
from codistill.storage.run_files import told_apart

Lines = Mapping[str, Sequence[float | None]]  # name -> a value per epoch
MOST_TERMS = 7  # kinds of losses in one figure; the rest is summed
_OTHERS = "others"
TOTAL = "total"  # the objective, among the losses of metrics.jsonl


def accuracy(run: str, epochs: Sequence[Mapping[str, Any]], students: Sequence[str]) -> Figure | None:
    """Validation accuracy after each epoch; None where there were no validation images."""
    seen = [epoch for epoch in epochs if epoch.get("validation_accuracy")]
    if not seen:
        return None
    found = [epoch["validation_accuracy"] for epoch in seen]
    lines: dict[str, list[float | None]] = {
        told_apart(name): [accuracy["students"].get(name) for accuracy in found] for name in students
    }
    looks = {name: _look(place) for place, name in enumerate(lines)}
    for name, look in (("teacher", _TEACHER), ("ensemble", _ENSEMBLE)):
        if found[-1].get(name) is not None:
            lines[name], looks[name] = [accuracy.get(name) for accuracy in found], look
    others = "students, teacher and the mean of the students' probabilities (ensemble)"
    ends = ", ".join(f"{name} {values[-1]:.1f}" for name, values in lines.items() if values[-1] is not None)
    return over_epochs(
        f"{run}_accuracy",
        "Validation accuracy, %",
        [epoch["epoch"] for epoch in seen],
        lines,
        looks,
        alt=f"Validation accuracy after each of {len(seen)} epochs. At the end, in percent: {ends}.",
        note=f"After each epoch, of {others}." if "ensemble" in lines else "After each epoch.",
    )


def losses(run: str, epochs: Sequence[Mapping[str, Any]], students: Sequence[str]) -> list[Figure]:
    """The mean of each loss in each epoch, before it is weighed: a figure for each owner."""
    figures = []
    kinds = _kinds(epochs, students)
    for owner in _owners(epochs):
        names = [name for name in epochs[-1]["losses"] if name.startswith(f"{owner}/")]
        lines = {name.removeprefix(f"{owner}/"): [e["losses"].get(name) for e in epochs] for name in names}
        if not limits(value for values in lines.values() for value in values):
            continue
        ends = ", ".join(f"{kind} {values[-1]:.3g}" for kind, values in lines.items() if values[-1] is not None)
        figures.append(
            over_epochs(
                f"{run}_loss_{owner}",
                f"Losses of {owner}",
                [epoch["epoch"] for epoch in epochs],
                lines,
                {kind: _look(kinds.index(kind)) for kind in lines},
                alt=f"Each loss of {owner} in each epoch, unweighted. At the end: {ends}.",
                logarithmic=True,
            )
        )
    return figures


def weighted_shares(run: str, epochs: Sequence[Mapping[str, Any]], students: Sequence[str]) -> Figure | None:
    """What part of the objective each kind of loss is; None where a run did not log its weights."""
    seen = [epoch for epoch in epochs if epoch.get("weights") and epoch["losses"].get(TOTAL)]
    if not seen:
        return None
    by_kind: dict[str, list[float]] = {}
    for place, epoch in enumerate(seen):
        parts = {name: loss * epoch["weights"].get(name, 0.0) for name, loss in epoch["losses"].items()}
        whole = sum(abs(part) for name, part in parts.items() if name != TOTAL) or 1.0
        for name, part in parts.items():
            if name != TOTAL:
                by_kind.setdefault(name.partition("/")[2] or name, [0.0] * len(seen))[place] += 100 * abs(part) / whole
    ordered = sorted(by_kind, key=lambda kind: -sum(by_kind[kind]))
    kept = {kind: by_kind[kind] for kind in ordered if max(by_kind[kind]) > 0}
    if len(kept) > MOST_TERMS:
        rest = [kept.pop(kind) for kind in list(kept)[MOST_TERMS - 1 :]]
        kept[_OTHERS] = [sum(values) for values in zip(*rest, strict=True)]
    numbers = [epoch["epoch"] for epoch in seen]

    def plot(axes: Axes) -> None:
        kinds = _kinds(epochs, students)
        colours = [LIGHT["ensemble"] if kind == _OTHERS else series(kinds.index(kind)) for kind in kept]
        wide = numbers if len(numbers) > 1 else [numbers[0] - 0.5, numbers[0] + 0.5]
        values = [own if len(numbers) > 1 else own * 2 for own in kept.values()]
        axes.stackplot(wide, values, colors=colours, alpha=0.85, linewidth=0)
        axes.set_ylim(0, 100)
        epochs_axis(axes, numbers)
        bottom, ends = 0.0, []
        for (kind, own), colour in zip(kept.items(), colours, strict=True):
            ends.append((bottom + own[-1] / 2, f"{kind} {own[-1]:.0f}", colour))
            bottom += own[-1]
        label_ends(axes, ends)

    ends = ", ".join(f"{kind} {values[-1]:.0f} %" for kind, values in kept.items())
    return draw(
        f"{run}_weighted_shares",
        "Share of the objective, %",
        plot,
        alt=f"How the weighted losses share the objective in each epoch. At the end: {ends}.",
        note="Loss times weight, summed over students; weights as they are at the end of each epoch.",
    )


def richness(run: str, epochs: Sequence[Mapping[str, Any]], students: Sequence[str]) -> Figure | None:
    """Effective rank of each student's embeddings."""
    seen = [epoch for epoch in epochs if epoch.get("richness")]
    lines = {name: [epoch["richness"].get(name) for epoch in seen] for name in students}
    if not limits(value for values in lines.values() for value in values):
        return None
    ends = ", ".join(f"{name} {values[-1]:.1f}" for name, values in lines.items() if values[-1] is not None)
    return over_epochs(
        f"{run}_richness",
        "Richness: effective rank",
        [epoch["epoch"] for epoch in seen],
        lines,
        {name: _look(place) for place, name in enumerate(students)},
        alt=f"Effective rank of each student's embeddings after each epoch. At the end: {ends}.",
        note="In how many directions the embeddings of validation images spread. Near 1 they have collapsed.",
    )


def diversity(run: str, epochs: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """CKA and disagreement of each pair of students."""
    seen = [epoch for epoch in epochs if epoch.get("diversity")]
    told = {
        "cka": ("Likeness: CKA", "1 is equal up to rotation and scale: little is left to teach."),
        "disagreement": ("Difference: disagreement, %", "Validation images that two students answer differently."),
    }
    figures = []
    for key, (title, note) in told.items():
        pairs = list(seen[-1]["diversity"]) if seen else []
        lines = {pair: [epoch["diversity"].get(pair, {}).get(key) for epoch in seen] for pair in pairs}
        if not limits(value for values in lines.values() for value in values):
            continue
        ends = ", ".join(f"{pair} {values[-1]:.3g}" for pair, values in lines.items() if values[-1] is not None)
        named = {pair if len(pairs) > 1 else f"{values[-1] or 0:.3g}": values for pair, values in lines.items()}
        figures.append(
            over_epochs(
                f"{run}_{key}",
                title,
                [epoch["epoch"] for epoch in seen],
                named,
                {pair: _look(place) for place, pair in enumerate(named)},
                alt=f"{title} of each pair of students after each epoch. At the end: {ends}.",
                note=note if len(pairs) > 1 else f"{pairs[0]}. {note}",
            )
        )
    return figures


def over_epochs(
    name: str,
    title: str,
    epochs: Sequence[int],
    lines: Lines,
    looks: Mapping[str, tuple[str, str]],
    *,
    alt: str,
    note: str = "",
    logarithmic: bool = False,
) -> Figure:
    """A line for each name, which stands at its end. looks: colour and dash of each."""

    def plot(axes: Axes) -> None:
        for label, values in lines.items():
            colour, dash = looks[label]
            gaps = [float("nan") if value is None else value for value in values]
            axes.plot(epochs, gaps, dash, color=colour, marker="o" if len(epochs) == 1 else "")
        epochs_axis(axes, epochs)
        if logarithmic and all(value > 0 for own in lines.values() for value in own if value is not None):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
            axes.yaxis.set_minor_formatter("")
        ends = [(own[-1], short(label), looks[label][0]) for label, own in lines.items() if own[-1] is not None]
        label_ends(axes, ends)

    return draw(name, title, plot, alt=alt, note=note)


def _owners(epochs: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in epochs[-1]["losses"] if "/" in name))


def _kinds(epochs: Sequence[Mapping[str, Any]], students: Sequence[str]) -> list[str]:
    """Kinds of losses, those of students first, so that a kind has one colour in all figures."""
    owners = sorted(_owners(epochs), key=lambda owner: owner not in students)
    names = [name for owner in owners for name in epochs[-1]["losses"] if name.startswith(f"{owner}/")]
    return list(dict.fromkeys(name.partition("/")[2] for name in names))


def _look(place: int) -> tuple[str, str]:
    return series(place), DASHES[place % len(DASHES)]


_TEACHER, _ENSEMBLE = (LIGHT["teacher"], "--"), (LIGHT["ensemble"], ":")
