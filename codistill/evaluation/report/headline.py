"""The headline of a page, and what stands below it: how students end beside plain training, and how sure that is."""

from collections.abc import Sequence
from statistics import fmean

from codistill.evaluation.compare.comparability import LENGTH
from codistill.evaluation.compare.controls import PLAIN, length_of
from codistill.evaluation.compare.rows import ALONE, NEAR, Comparison, Row
from codistill.evaluation.report.gains import Gain
from codistill.evaluation.report.parts import between, told


def headline(comparison: Comparison, gains: Sequence[Gain], rows: Sequence[Row]) -> tuple[str, str]:
    """Of the rows of a page; of the one that ends highest beside plain training, where they compete."""
    if not set(comparison.differing_terms) <= set(LENGTH):
        parts = list(dict.fromkeys(key.partition(".")[0] for key in comparison.differing_terms))
        runs = sum(len(row.runs) for row in rows)
        return (
            f"{runs} runs, in {len(comparison.blocks)} groups that do not compete",
            f"The groups differ in {' and '.join(filter(None, [', '.join(parts[:-1]), parts[-1]]))}. Differences are "
            "taken within each group.",
        )
    taught = [gain for gain in gains if gain.row.method != ALONE]
    plain = [gain for gain in taught if PLAIN in gain.kinds]
    candidates = [gain for gain in plain if not gain.mean.unequal] or plain or taught
    return _of_gain(candidates, taught) if candidates else _of_rows(rows)


def _of_rows(rows: Sequence[Row]) -> tuple[str, str]:
    """Where no row with teaching has a control."""
    highest = max(rows, key=lambda row: fmean(row.last.students_mean))
    reached = f"{fmean(highest.last.students_mean):.2f} %"
    lacks = any(row.method != ALONE for row in rows)
    detail = "Test accuracy, students' mean. "
    detail += "Without a control it is not known what plain training would reach." if lacks else "Without teaching."
    if len(rows) > 1:
        return f"Highest of {len(rows)} rows: {highest.name}, {reached}", detail
    if len(highest.students) == 1:
        return f"One student alone: {reached}", "Test accuracy. It has no peer to learn from."
    return f"The students reach {reached} on average", detail


def _of_gain(candidates: Sequence[Gain], taught: Sequence[Gain]) -> tuple[str, str]:
    """Of the highest of the candidates."""
    gain = candidates[0]
    mean, row, control = gain.mean, gain.row, gain.control
    name = _in_words(gain)
    who = "Students that learned together" if len({own.row.name for own in taught}) == 1 else gain.label
    points = round(abs(mean.mean), 2)
    if mean.significant is False:
        text = f"{who}: no significant difference to {name}"
        text += f" (95 % CI {between(mean)})" if between(mean) else ""
    elif points:
        text = f"{who} ended {points:.2f} points {'above' if mean.mean > 0 else 'below'} {name}"
    else:
        text = f"{who} ended level with {name}"
    if mean.t is None:
        text += ", in one seed" if len(mean.seeds) == 1 else f", in {len(mean.seeds)} seeds"
    tasks = "no tasks" if control.tasks == "none" else f"tasks {control.tasks}"
    said = [f"Students' mean, test accuracy: {told(mean)}."]
    said.append(f"The control is {control.name}: method {control.method}, {tasks}, {length_of(control)}.")
    if mean.interval is None and len(mean.seeds) == 1:
        said.append("One run is one sample, and proves little.")
    if len(candidates) > 1:
        said.append(f"It is the best of {len(candidates)} by that very number, so expect less of it again.")
    other = next((own for own in taught if own.row.name == row.name and own.control.name != control.name), None)
    if other is not None:
        said.append(f"Against {other.control.name} ({other.what}): {told(other.mean)}.")
    elif PLAIN not in gain.kinds:
        said.append("Whether plain training, without tasks, would end higher is not known: no such run is here.")
    return text, " ".join(said)


def _in_words(gain: Gain) -> str:
    """``plain training at equal compute``, ``plain training for 30 epochs``, ``the same training without teaching``."""
    if PLAIN in gain.kinds:
        if not (how := gain.mean.unequal):
            return "plain training at equal compute"
        name = f"plain training for {'the ' if how.startswith('same') else ''}{how}"
    else:
        name = f"the same training {gain.what}"
    ratio = gain.row.passes_over(gain.control)
    return name if ratio is None or abs(ratio - 1) <= NEAR else f"{name}, with {ratio:.2f} x its forward passes"
