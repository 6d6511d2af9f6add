"""What a plan says of a run, against counts by hand."""

import json
import re
from multiprocessing import Pipe
from typing import Any

import pytest
import torch
from backbones import PlainCNN, TinyViT
from cohorts import CLASSES, SIZE, make_cohort
from typer.testing import CliRunner

from codistill import Student, UserError
from codistill.cli import plan as plan_command
from codistill.cli.main import app
from codistill.config.schema import RunConfig, make_config
from codistill.experiments.bench import worker
from codistill.experiments.cost import Plan, build_to_plan, describe
from codistill.experiments.flops import dry_step, flops_of_pass
from codistill.training.runtime import Runtime

IMAGE = (3, SIZE, SIZE)
CPU = Runtime(torch.device("cpu"))


def config(**given: object) -> RunConfig:
    data = {"name": "synthetic", "image_size": 16, "classes": 4}
    return make_config({"method": "collaborative", "data": data, "batch_size": 20, **given})


def plan(**given: object) -> Plan:
    return describe(build_to_plan(config(**given)))


def test_flops_of_a_small_network_are_those_counted_by_hand() -> None:
    first, second = 8 * 8 * 12 * (3 * 9), 4 * 4 * 24 * (12 * 9)  # multiply-adds of the convolutions
    assert flops_of_pass(Student(PlainCNN(), CLASSES), IMAGE) == 2 * (first + second + 24 * CLASSES)


def test_attention_is_counted() -> None:
    tokens, width = 17, 20
    projections = tokens * width * (3 * width + width)
    attention, mlp = 2 * tokens * tokens * width, 2 * tokens * width * 2 * width
    patches = 16 * width * (3 * 4 * 4)
    by_hand = 2 * (patches + 2 * (projections + attention + mlp) + width * CLASSES)
    assert flops_of_pass(Student(TinyViT(SIZE), CLASSES), IMAGE) == by_hand


def test_what_is_kept_for_the_backward_pass_is_what_was_counted_by_hand() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"})
    images = 4 * 3 * SIZE * SIZE  # read by both
    convolved, rectified = 4 * (12 * 8 * 8 + 24 * 4 * 4), 4 * (12 * 8 * 8 + 24 * 4 * 4)
    by_hand = images + 2 * (convolved + rectified + 4 * 24 + 4 * CLASSES)
    assert dry_step(cohort, IMAGE, CLASSES, CPU).kept_bytes == pytest.approx(by_hand, rel=0.01)


def test_parameters_are_those_of_the_cohort() -> None:
    experiment = build_to_plan(
        config(students={"a": "resnet8", "b": "resnet14"}, tasks=[["rotation", "supcon"], "simclr"])
    )
    found = describe(experiment)
    students, training_only = experiment.cohort.parameter_counts()
    assert {name: student.parameters for name, student in found.students.items()} == students
    assert found.training_only_parameters == training_only
    assert found.training_only_share == pytest.approx(training_only / sum(students.values()))
    tasks = [task for student in found.students.values() for task in student.tasks.values()]
    assert sum(t.parameters for t in [*tasks, *found.teachers.values()]) == training_only
    assert all(sum(task.heads.values()) == task.parameters > 0 for task in tasks)


@pytest.mark.parametrize(
    "given",
    [
        {"tasks": ["rotation", "simclr"]},
        {"tasks": [[{"name": "rotation", "fraction": 0.5}, "supcon"], "jigsaw"]},
        {"tasks": [{"name": "rotation", "fraction": 0.1}, {"name": "colour", "fraction": 0.15}]},
        {"method": "hssakd", "tasks": "none"},  # lessons on all quarter turns
        {"method": "pcl", "tasks": "none"},  # copies of the students
        {"method": "dml", "tasks": "rotation", "view_statistics": "clean_only"},
    ],
    ids=str,
)
def test_a_step_costs_each_students_passes_and_what_tasks_and_teachers_compute(given: dict[str, Any]) -> None:
    found = plan(students=["resnet8", "resnet14"] if given.get("method") != "pcl" else ["resnet8"] * 2, **given)
    passes = sum(student.passes * student.flops for student in found.students.values())
    heads = sum(task.flops for student in found.students.values() for task in student.tasks.values())
    assert found.flops == pytest.approx(passes + heads + sum(t.flops for t in found.teachers.values()), rel=1e-3)


def test_a_view_costs_its_fraction_and_is_made_once_for_all_who_ask() -> None:
    tasks = [[{"name": "rotation", "fraction": 0.25}, {"name": "rotation_only", "fraction": 0.5}], "none"]
    found = plan(tasks=tasks, method="dml")
    student, other = found.students.values()
    assert (student.tasks["rotation"].passes, student.tasks["rotation_only"].passes) == (0.75, 1.5)
    assert student.passes == 1 + 3 * 0.5
    assert (other.passes, other.views) == (1.0, {"clean": 1.0})


def test_a_shared_trunk_is_passed_once() -> None:
    found = plan(students=["resnet8"] * 3, method="one", tasks="none")
    assert found.flops < 0.6 * sum(student.flops for student in found.students.values())


def test_steps_memory_and_warnings_are_those_of_the_run() -> None:
    experiment = build_to_plan(config(tasks="none", method="independent", epochs=3))
    experiment.warnings.append("Something is hardly meant.")
    found = describe(experiment)
    assert (found.batch_size, found.steps_per_epoch, found.epochs) == (20, len(experiment.loader), 3)
    memory = found.memory
    assert memory.gradients == memory.momentum == 4 * sum(student.parameters for student in found.students.values())
    assert memory.weights > memory.gradients  # running statistics
    assert memory.kept == 20 * dry_step(experiment.cohort, IMAGE, 4, CPU).kept_bytes
    assert memory.total == memory.weights + memory.gradients + memory.momentum + memory.kept + memory.images
    assert plan(tasks="none", optimizer={"momentum": 0, "nesterov": False}).memory.momentum == 0
    assert found.warnings == ["Something is hardly meant."]


def test_who_is_planned_is_left_as_it_was() -> None:
    experiment = build_to_plan(config())
    cohort, look = experiment.cohort, experiment.cohort.look
    before = {name: tensor.clone() for name, tensor in cohort.state_dict().items()}
    random = torch.get_rng_state()
    describe(experiment)
    assert all(torch.equal(before[name], tensor) for name, tensor in cohort.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert cohort.training
    assert cohort.look is look


def test_what_training_refuses_is_refused() -> None:
    with pytest.raises(UserError, match="sync_batchnorm=true needs CUDA"):
        build_to_plan(config(device="cpu", sync_batchnorm=True))
    with pytest.raises(UserError, match="batch_size=10000 is larger than the training data"):
        build_to_plan(config(batch_size=10_000))


def test_the_command_prints_json_with_what_it_measured() -> None:
    words = ["data=synthetic", "data.image_size=16", "batch_size=20", "tasks=[rotation,none]", "method=collaborative"]
    done = CliRunner().invoke(app, ["plan", *words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    student = found["students"]["resnet8_1"]
    assert student["shape"][2] == [[16, 16, 16], [32, 8, 8], [64, 4, 4]]
    assert student["tasks"]["rotation"]["views"] == ["rot90", "rot180", "rot270"]
    assert found["teachers"]["cpm"]["answers"]
    assert found["config"]["method"]["name"] == "collaborative"
    measured = found["measured"]
    assert measured["images_per_second"] == pytest.approx(20 / measured["step_seconds"], rel=0.05)
    assert measured["peak_memory_bytes"] > found["memory"]["total"]


def test_the_command_prints_tables_without_running_a_step() -> None:
    words = ["plan", "--no-timing", "method=collaborative", "tasks=jigsaw"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "resnet8_1/jigsaw │ head 1,560" in done.output
    assert "For training only: 63,426 parameters (0.41x the students')." in done.output
    assert "Cost: 800 steps of 128 images, 8 an epoch;" in done.output
    assert "Time: not measured; 100 epochs." in done.output


def test_a_plan_leads_with_time_memory_and_cost_before_any_table() -> None:
    words = ["data=synthetic", "data.image_size=16", "batch_size=20", "tasks=none", "method=independent", "epochs=7"]
    done = CliRunner().invoke(app, ["plan", *words], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    data, time, memory, cost, *tables = done.stdout.splitlines()
    assert data.startswith("synthetic: ")
    assert re.match(r"Time: [\d.]+ (s|min|h) in 7 epochs of [\d.]+ s each, without evaluation; ", time)
    assert re.match(r"Memory: [\d,]+ MB at the peak, measured; [\d,]+ MB at least, computed", memory)
    assert cost.startswith("Cost: ")
    assert "student" in tables[1]


def test_a_plan_that_does_not_fit_still_says_what_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(config: RunConfig, steps: int) -> None:
        raise UserError("A step with batch_size=20 does not fit into memory. Lower it.")

    monkeypatch.setattr(plan_command, "time_steps", too_large)
    done = CliRunner().invoke(app, ["plan", "data=synthetic", "data.image_size=16", "batch_size=20"])
    assert "at least, computed" in done.output
    assert "does not fit into memory" in str(done.exception)


def test_a_plan_says_what_is_chosen_for_its_length_and_has_it_in_its_configuration() -> None:
    words = ["plan", "--no-timing", "data=synthetic", "data.image_size=16", "epochs=1"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "\nChosen for 1 epoch and " in done.output
    assert "resnet8_2" not in done.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["choice"] in done.output
    assert found["config"]["method"] == {"name": "independent"}
    assert list(found["config"]["students"]) == list(found["students"]) == ["resnet8_1"]


def test_a_batch_that_does_not_fit_is_told_to_whoever_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(config: RunConfig) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")

    ours, theirs = Pipe()
    monkeypatch.setattr(worker, "LOOPS", {"ours": too_large})
    monkeypatch.setattr(worker.signal, "signal", lambda *arguments: None)  # the test's own Ctrl-C stays
    worker.work(theirs, "ours", config())
    assert ours.recv() == ("error", "A step with batch_size=20 does not fit into memory. Lower it.")
