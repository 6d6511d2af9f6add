"""Every shipped recipe is a whole configuration, and trains."""

from pathlib import Path
from statistics import fmean

import pytest
import torch
from cohorts import gradients

from codistill import Batch
from codistill.config.recipe import load_config
from codistill.config.schema import RunConfig
from codistill.experiments.sweep.sweep_file import read_sweep
from codistill.methods import METHODS
from codistill.training.build_cohort import build_cohort

ROOT = Path(__file__).parents[2] / "recipes"
SWEEPS = sorted(ROOT.glob("**/*sweep*.yaml"))
RECIPES = sorted(set(ROOT.glob("**/*.yaml")) - set(SWEEPS))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_trains_for_two_steps(path: Path) -> None:
    config = load_config(path)
    size = min(config.data.image_size or 32, 16)  # of random images: the recipe's own may not be here
    cohort, objective = build_cohort(config, (3, size, size), num_classes=10)
    optimizer = torch.optim.SGD(cohort.parameters(), lr=0.01)
    for _ in range(2):
        batch = Batch(torch.randn(4, 3, size, size), torch.randint(0, 10, (4,)), (torch.randn(4, 3, size, size),))
        optimizer.zero_grad()
        losses = cohort(batch)
        objective.table(losses)
        objective(losses).backward()
        optimizer.step()
    assert all(gradient.isfinite().all() for gradient in gradients(cohort).values())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_run_of_a_shipped_sweep_is_a_whole_configuration(path: Path) -> None:
    assert read_sweep(path)


def test_the_rows_on_cifar100_can_have_a_shorter_schedule() -> None:
    assert {entry.config.epochs for entry in read_sweep(ROOT / "cifar100" / "sweep.yaml", {"epochs": 100})} == {100}


def test_the_longer_rows_on_cifar100_take_the_forward_passes_of_the_first() -> None:
    first = read_sweep(ROOT / "cifar100" / "sweep.yaml")[0].config
    passes = [_passes(entry.config) for entry in read_sweep(ROOT / "cifar100" / "longer_sweep.yaml")]
    assert passes == pytest.approx([_passes(first)] * len(passes), rel=0.005)


def _passes(config: RunConfig) -> float:
    """Of a student in all of training, on average over students, in epochs of one."""
    cohort, _ = build_cohort(config, (3, 32, 32), num_classes=100)
    return config.epochs * fmean(sum(views.values()) for views in cohort.views_of.values())


def test_the_micro_benchmark_differs_in_method_and_tasks_alone() -> None:
    def terms(config: RunConfig) -> dict[str, object]:
        return config.model_dump(exclude={"method", "tasks", "students", "seed"})

    entries = read_sweep(ROOT / "micro" / "sweep.yaml")
    configs = [
        entry.config for entry in entries if not entry.name.split("-")[0].endswith(("_long", "_middle", "_short"))
    ]
    assert {config.method.name for config in configs} == set(METHODS)
    assert all(terms(config) == terms(configs[0]) for config in configs)
    assert {model for config in configs for model in config.students.values()} == {"resnet8"}
    assert configs[0].data.image_size == 16
    first = configs[0]
    assert (first.data.classes, first.data.per_class, first.epochs, first.batch_size) == (20, 100, 100, 128)
