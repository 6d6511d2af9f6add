"""Write what is generated in README and docs: ``python docs/update_tables.py``.

Tables come from the committed results, docs/methods.md from the docstrings and signatures of methods and tasks.

What is generated stands between a mark and ``<!-- end -->``. NAMES are recipes, of which all seeds are taken,
``FOLDER/NAME-seed*``; what is measured beside a plain loop is in ``benchmarks/results/NAME.json``.

- ``<!-- runs: FOLDER: NAMES -->``: the comparison of these rows.
- ``<!-- analyses: FOLDER: NAMES -->``: what their students learned.
- ``<!-- costs: FOLDER: NAMES -->``: what they cost, and whether plain training for as long ends as well.
- ``<!-- pairs: FOLDER: NAMES -->``: what teaching adds to pairs of tasks.
- ``<!-- parts: FOLDER: NAMES -->``: what each row changes against the first.
- ``<!-- budgets: FOLDER -->``: short and long trainings at equal compute; all runs of the folder.
- ``<!-- stress: FOLDER: STUDENT -->``: a collapse test; the student is healthy.
- ``<!-- bench against: NAMES -->``: images per second beside the plain loop; ``bench cost``: the parts of a step.
- ``<!-- keys -->``: all keys of a configuration.
- ``<!-- code: PATH -->``: that file, or with ``: NAMES`` some of its classes, functions and tables alone; the last may be
  ``main``, for what is run.

Figures of ``costs``, ``pairs`` and ``parts`` go to ``docs/images`` if the page, in ``docs``, shows them.
A test fails when a page is stale.
"""

import ast
import json
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import ablation
import budget_table
import method_cost
import task_difference

from codistill.config.schema import describe_fields
from codistill.evaluation.compare.rows import compare
from codistill.evaluation.compare.tables import Table, markdown, tables
from codistill.evaluation.report.analysis import comparison, read_groups
from codistill.experiments import describe_registry
from codistill.experiments.stress_test import against_alone, against_healthy, harms
from codistill.methods import METHODS
from codistill.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("results", "performance", "configuration"))]
CODE_PAGES = [ROOT / "docs" / "extending.md"]
METHODS_PAGE = ROOT / "docs" / "methods.md"
PREFACE = """# Methods and tasks

Without `method` and `tasks`, a run chooses them [by its length](configuration.md#auto). A method that you name has no task unless you name one, but for `collaborative`, which has `jigsaw` on a quarter of each
batch in a long training. Two papers need more than the method's name: `mcl` `order=class_pairs`, `pcl` `method.shared_trunk=true`. A run has two [controls](compare.md): `method=independent` with the same tasks, and
without tasks for as many forward passes.

Generated from the docstrings by `make tables`; `codistill methods show NAME` and `codistill tasks show NAME` print the same. Costs are
those of a ResNet-32 pair at 100 classes (three students where a method needs three); a task's, those of one ResNet-32 in it. Passes are those of a student itself:
the averages of `pcl` see each image besides.

## Compared with public code

Losses, and gradients where named, on the same random tensors in float32; largest absolute difference. Edits to run their code on a CPU
today (`.cuda()` removed, renamed arguments) change no formula. Where their code adds 1e-7 to target probabilities, ours does not.

| ours | public code, commit | what | difference |
|---|---|---|---|
| mcl | winycg/MCL 236da2f | `Sup_MCL_Loss`, two and three networks, `own_image=True` | 9.5e-7; gradients 1.2e-7 |
| hssakd | winycg/HSAKD 28c8dc2 | the losses of `train_online_kd_cifar`, 22.2 in all | 1.9e-6; gradients 2.8e-7 |
| one | Lan1991Xu/ONE_NeurIPS2018 54afde3 | whole ResNet-8, weights copied, loss 9.3 | 2.9e-6; gradients 5e-7 |
| okddip | DefangChen/OKDDip-AAAI2020 c6a05de | `resnet_GL`, whole network | 5.7e-6; gradients 1.2e-7 |
| clilr | the same | CL-ILR with its rescaled gradient, whole network | 2.1e-6; gradients 2e-8 |
| ffl | Jangho-Kim/FFL-pytorch 546d478 | fusion module; losses | 2e-7; 3e-4, and 0 without their 1e-7 |
| ffsd | SJLeo/FFSD d5cfda9 | diversity, fusion and self-distillation, losses and gradients; fusion module | 0; 1e-7 |
| pcl | shaoeric's reproduction 6afb473 | `LossWrapper`, loss 48.3; moving average after 1,500 steps | 4e-6; 4e-5 |
| switokd | hfutqian/SwitOKD a3f9623 | SGD updates of `train()` on random logits, 200 batches, T = 1 | 9.5e-7 |
| rotation, colour | hankook/SLA bc5d9cd | views and joint-label cross-entropy | 0 |
| simclr | sthalles/SimCLR 1848fc9 | `info_nce_loss` | 0 |

No public code by the authors was found for `kdcl`, `clilr`, `pcl`, `afd` and `collaborative`; what `clilr` and `pcl` are compared with is by others. The papers' full texts were not at hand for most methods:
formulas are from public code, abstracts and the secondary sources that a docstring names.
"""
TABLE = re.compile(
    r"(<!-- (?P<kind>runs|analyses): (?P<folder>\S+): (?P<names>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL
)
STRESS = re.compile(r"(<!-- stress: (?P<folder>\S+): (?P<healthy>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
BENCH = re.compile(r"(<!-- bench (?P<kind>against|cost): (?P<names>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
DRAWN = re.compile(
    r"(<!-- (?P<kind>pairs|parts|costs): (?P<folder>\S+): (?P<names>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL
)
BUDGETS = re.compile(r"(<!-- budgets: (?P<folder>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
KEYS = re.compile(r"(<!-- keys -->\n).*?(<!-- end -->)", re.DOTALL)
CODE = re.compile(r"(<!-- code: (?P<path>[^\s:]+)(?:: (?P<names>[^>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(page: str) -> str:
    """The text of a page with all its tables and code made anew."""
    for pattern, made in (
        (CODE, _code),
        (BENCH, _bench_table),
        (STRESS, _stress_table),
        (TABLE, _table),
        (DRAWN, _drawn),
        (KEYS, _keys),
        (BUDGETS, _budgets),
    ):
        page = pattern.sub(made, page)
    return page


def _code(match: re.Match[str]) -> str:
    source = (ROOT / match["path"]).read_text(encoding="utf-8")
    if match["names"]:
        lines = source.splitlines()
        parts = {_name(node): "\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in ast.parse(source).body}
        source = "\n\n\n".join(parts[name] for name in match["names"].split())
    return f"{match[1]}\n```python\n{source.strip()}\n```\n\n{match[4]}"


def _name(node: ast.stmt) -> str:
    """Of a class or function; ``main`` for ``if __name__ == "__main__"``; of a table that is written to, its own."""
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return node.name
        case ast.If():
            return "main"
        case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name))]):
            return name
    return ""


def _named_runs(folder: str, names: str) -> list[Path]:
    """All seeds of each row that a mark names, or the one that it asks for."""
    found = {name: sorted((ROOT / folder).glob(name if "-seed" in name else f"{name}-seed*")) for name in names.split()}
    if lacking := [name for name, own in found.items() if not own]:
        raise FileNotFoundError(f"{folder} has no runs called {', '.join(lacking)}.")
    return [run for own in found.values() for run in own]


def _table(match: re.Match[str]) -> str:
    rows = compare(_named_runs(match["folder"], match["names"]))
    if match["kind"] == "runs":
        found = tables(rows, timing=False, details=False)
    else:
        found = [Table("", *comparison(read_groups(rows.rows, "test")))]
    return f"{match[1]}\n{markdown(found)}\n{match[5]}"


def _drawn(match: re.Match[str]) -> str:
    made_by, found = _read_drawn(match["kind"], match["folder"], match["names"])
    return f"{match[1]}\n{made_by.table(found)}\n{match[5]}"


@cache  # for the table and for its figures
def _read_drawn(kind: str, folder: str, names: str) -> tuple[ModuleType, list[Any]]:
    """What makes the table and the figures of a mark, and of what."""
    runs = _named_runs(folder, names)
    if kind == "pairs":
        return task_difference, task_difference.read_pairs(runs)
    if kind == "parts":
        return ablation, ablation.read_parts(runs)
    return method_cost, method_cost.read_prices(runs)


def _budgets(match: re.Match[str]) -> str:
    found = budget_table.read_budgets(sorted((ROOT / match["folder"]).iterdir()))
    return f"{match[1]}\n{budget_table.table(found)}\n{match[3]}"


def _keys(match: re.Match[str]) -> str:
    cells = [
        [f"`{key}`", f"`{default}`" if default else "", text.replace(" | ", ", ")]
        for key, default, text in describe_fields()
    ]
    return f"{match[1]}\n{markdown([Table('', ['key', 'default', ''], cells)])}\n{match[2]}"


def _stress_table(match: re.Match[str]) -> str:
    runs = sorted((ROOT / match["folder"]).iterdir())
    rows = harms(runs, match["healthy"])
    found = [
        Table(f"Minus `{match['healthy']}` alone, with its task", *against_alone(rows)),
        Table(f"Minus `{match['healthy']}` beside a healthy peer, with the same method", *against_healthy(rows)),
    ]
    return f"{match[1]}\n{markdown([shown for shown in found if shown.cells])}\n{match[4]}"


def _bench_table(match: re.Match[str]) -> str:
    row = _against if match["kind"] == "against" else _cost
    rows = [row(json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())) for name in match["names"].split()]
    for name, cells in zip(match["names"].split(), rows, strict=True):
        cells |= {"row": name.split("/")[-1].replace("_", " ")}
    columns = ["row", *(column for column in rows[0] if column != "row")]
    made = markdown([Table("", columns, [[cells[column] for column in columns] for cells in rows])])
    return f"{match[1]}\n{made}\n{match[4]}"


def _against(result: dict[str, Any]) -> dict[str, str]:
    ratio, cpu = result["ratio"], result["cpu_ratio"]
    return {
        "codistill, images/s": f"{result['images_per_second']:,.0f}",
        "plain loop, images/s": f"{result['naive']['images_per_second']:,.0f}",
        "ratio (slowest to fastest round)": f"**{ratio['median']:.2f}** ({ratio['min']:.2f} to {ratio['max']:.2f})",
        "ratio of processor time": f"{cpu['median']:.2f}",
        "peak memory, MB: ours / plain": f"{_megabytes(result)} / {_megabytes(result['naive'])}",
        "losses differ by": f"{result['loss_difference']:.0e}",
    }


def _cost(result: dict[str, Any]) -> dict[str, str]:
    return {
        "images/s": f"{result['images_per_second']:,.0f}",
        "images/s x students": f"{result['student_images_per_second']:,.0f}",
        **{f"{part}, ms": f"{value:,.1f}" for part, value in result["step_ms"].items()},
        "peak memory, MB": _megabytes(result),
    }


def _megabytes(result: dict[str, Any]) -> str:
    return f"{result['peak_memory_bytes'] / 1e6:,.0f}"


def methods_page() -> str:
    """docs/methods.md as it should be."""
    parts = [PREFACE, "## Methods\n", *(_section(describe_registry.describe_method(name)) for name in METHODS)]
    parts += ["## Tasks\n", *(_section(describe_registry.describe_task(name)) for name in TASKS)]
    return "\n".join(parts)


def _section(entry: describe_registry.Entry) -> str:
    settings = [f"| `{setting.name}` | {setting.kind} | {setting.default} |" for setting in entry.settings]
    table = ["| setting | type | default |", "|---|---|---|", *settings, ""] if settings else []
    extra = f"{entry.extra_parameters:,} training-only parameters"
    cost = f"Cost: {entry.passes:g} forward passes a student and step, {extra}."
    return "\n".join([f"### {entry.name}\n", f"```text\n{entry.text}\n```\n", f"{entry.usage}\n", *table, f"{cost}\n"])


if __name__ == "__main__":
    METHODS_PAGE.write_text(methods_page(), encoding="utf-8")
    for path in [*PAGES, *CODE_PAGES]:
        text = path.read_text(encoding="utf-8")
        path.write_text(updated(text), encoding="utf-8")
        for found in DRAWN.finditer(text):
            made_by, rows = _read_drawn(found["kind"], found["folder"], found["names"])
            for figure in made_by.figures(rows):
                if f"](images/{figure.name}." in text:
                    figure.save(ROOT / "docs" / "images", kinds=["svg"])
