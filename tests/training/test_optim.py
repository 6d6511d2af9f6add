"""Optimizers by name: their own defaults, a rate for each student, and steps that are those of PyTorch's own."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cohorts import make_batch, make_cohort
from safetensors.torch import load_file
from torch import Tensor

from codistill import UserError, make_config
from codistill.experiments.cost import build_to_plan, describe
from codistill.storage.run_files import read_metrics
from codistill.training import trainer
from codistill.training.amp import Scaling
from codistill.training.build import build
from codistill.training.display import Silent
from codistill.training.optim import start_over
from codistill.training.runtime import Runtime
from codistill.training.step import Step

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "students": {"a": "resnet8", "b": "resnet8"},
    "tasks": "none",
    "method": "dml",
    "data": {"per_class": 3, "image_size": 8},
    "batch_size": 15,
    "epochs": 2,
}


def test_each_optimizer_has_defaults_of_its_own_where_a_recipe_does_not_say() -> None:
    sgd, adamw = make_config({}).optimizer, make_config({"optimizer": "adamw"}).optimizer
    assert (sgd.name, sgd.lr, sgd.weight_decay, sgd.nesterov) == ("sgd", 0.1, 5e-4, True)
    assert (adamw.name, adamw.lr, adamw.weight_decay, adamw.nesterov) == ("adamw", 1e-3, 0.05, False)
    given = make_config({"optimizer": {"name": "adamw", "lr": 3e-4, "beta2": 0.95}}).optimizer
    assert given.settings == {"name": "adamw", "betas": (0.9, 0.95), "weight_decay": 0.05}
    assert given.lr == 3e-4


def test_a_complete_configuration_with_adamw_reads_as_itself() -> None:
    config = make_config({"optimizer": {"name": "adamw", "lr_factors": {"resnet8_2": 0.1}}})
    assert make_config(yaml.safe_load(config.to_yaml())) == config


def trained(name: str, overflows: list[bool], precision: str = "fp32", **settings: Any) -> dict[str, Tensor]:
    cohort, objective = make_cohort({"a": "cnn", "b": "cnn"}, method="dml")
    optimizer = Runtime(CPU).optimizer(cohort, name=name, lr=0.01, **settings)
    step = Step(cohort, objective, optimizer, Runtime(CPU), None, Scaling(optimizer, Runtime(CPU, precision)))
    cohort.eval()
    for overflow in overflows:
        loss = step.forward(make_batch(12), progress=0.5)[1]
        step.backward(loss * float("inf") if overflow else loss)
        step.update(0.01)
    return dict(cohort.state_dict())


def test_steps_are_those_of_pytorchs_own_adamw() -> None:
    settings = {"betas": (0.8, 0.95), "weight_decay": 0.1}
    cohort, objective = make_cohort({"a": "cnn", "b": "cnn"}, method="dml")
    plain = torch.optim.AdamW(cohort.parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    cohort.eval()
    for _ in range(3):
        plain.zero_grad()
        objective(cohort(make_batch(12)), progress=0.5).backward()
        plain.step()
    found = trained("adamw", [False] * 3, **settings)
    torch.testing.assert_close(found, dict(cohort.state_dict()), atol=1e-6, rtol=1e-5)


def test_a_step_that_fp16_skips_leaves_no_trace_in_adamw() -> None:
    expected = trained("adamw", [False, False, False])
    found = trained("adamw", [True, False, False, True, False], "fp16")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_student_and_its_tasks_may_learn_at_a_rate_of_their_own(tmp_path: Path) -> None:
    config = make_config({**TINY, "tasks": "rotation", "optimizer": {"lr_factors": {"b": 0.5}}})
    experiment = build(config)
    groups = experiment.runtime.optimizer(experiment.cohort, config.optimizer.lr_factors, lr=0.1).param_groups
    assert {group["name"]: group["lr_factor"] for group in groups} == {
        "a": 1.0,
        "a/rotation": 1.0,
        "b": 0.5,
        "b/rotation": 0.5,
    }


def test_a_poisoned_student_learns_ten_times_as_fast_as_it_was_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    made = Runtime.optimizer

    def spy(self: Runtime, cohort: Any, factors: Any = None, **settings: Any) -> torch.optim.Optimizer:
        seen.append(factors)
        return made(self, cohort, factors, **settings)

    monkeypatch.setattr(Runtime, "optimizer", spy)
    poison = {"student": "b", "learning_rate": 10.0}
    config = make_config({**TINY, "poison": poison, "optimizer": {"lr_factors": {"a": 2.0, "b": 0.5}}})
    trainer.train(config, tmp_path / "run")
    assert seen == [{"a": 2.0, "b": 5.0}]


def test_a_run_with_adamw_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    config = make_config({**TINY, "optimizer": "adamw"})
    trainer.train(config, tmp_path / "whole", Silent())

    class Ended(Exception):
        pass

    class EndsInTheSecondEpoch(Silent):
        def tick(self, progress: Any) -> None:
            if progress.epoch == 2:
                raise Ended

    with pytest.raises(Ended):
        trainer.train(config, tmp_path / "cut", EndsInTheSecondEpoch())
    trainer.train(config, tmp_path / "cut", Silent(), resume=True)
    for name in "ab":
        one, other = (load_file(tmp_path / run / "students" / f"{name}.safetensors") for run in ("whole", "cut"))
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_parameter_that_starts_over_is_moved_as_if_for_the_first_time() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    for gradient in (5.0, -2.0):
        weight.grad = torch.full((3,), gradient)
        optimizer.step()
    start_over(optimizer, weight)
    before = weight.detach().clone()
    weight.grad = torch.full((3,), 7.0)
    optimizer.step()
    torch.testing.assert_close(before - weight.detach(), torch.full((3,), 0.1))  # the first step of Adam is lr itself


def test_the_logged_rate_is_the_schedules_whoever_has_a_factor(tmp_path: Path) -> None:
    rates = []
    for factors in ({}, {"a": 0.5}, {"b": 0.5}):
        trainer.train(make_config({**TINY, "optimizer": {"lr_factors": factors}}), tmp_path / str(factors), Silent())
        rates.append([line["lr"] for line in read_metrics(tmp_path / str(factors))])
    assert rates[0] == rates[1] == rates[2]


def test_students_that_share_a_trunk_have_one_rate() -> None:
    config = make_config({**TINY, "method": "one", "optimizer": {"lr_factors": {"b": 0.5}}})
    with pytest.raises(UserError, match=r"optimizer.lr_factors is for students of their own, but method 'one' shares"):
        build(config)


def test_a_weight_decay_for_adamw_is_warned_of_with_sgd() -> None:
    config = make_config({**TINY, "optimizer": {"weight_decay": 0.05}})
    assert any("optimizer.weight_decay=0.05 is one for adamw" in warning for warning in build(config).warnings)


def test_a_rate_for_sgd_is_warned_of_with_adamw() -> None:
    config = make_config({**TINY, "optimizer": {"name": "adamw", "lr": 0.1}})
    assert any("optimizer.lr=0.1 is a rate for sgd" in warning for warning in build(config).warnings)
    assert not any("rate for sgd" in warning for warning in build(make_config(TINY)).warnings)


def test_a_plan_counts_both_moments_of_adamw() -> None:
    memory = describe(build_to_plan(make_config({**TINY, "optimizer": "adamw"}))).memory
    assert memory.momentum == 2 * memory.gradients
