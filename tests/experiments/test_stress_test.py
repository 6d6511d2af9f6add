"""The collapse test: each harm reaches one student only, exactly, and the table is what it says."""

import json
from pathlib import Path

import pytest
import torch
from cohorts import make_batch, make_cohort
from safetensors.torch import load_file

from codistill import UserError
from codistill.config.faults import wrong_labels
from codistill.config.schema import make_config
from codistill.data.sampler import shuffled
from codistill.experiments.stress_test import Harm, against_alone, against_healthy, harms, stress_entries
from codistill.storage.checkpoint import read
from codistill.training import trainer
from codistill.training.build import build, fresh_student
from codistill.training.display import Silent

PAIR = {"a": "resnet8", "b": "resnet8"}
TINY = {
    "students": PAIR,
    "tasks": ["rotation", "supcon"],
    "epochs": 2,
    "batch_size": 32,
    "data": {"per_class": 12, "name": "digits"},
}


def test_whose_labels_are_wrong_has_nothing_to_do_with_the_order_of_images() -> None:
    labels = torch.zeros(1000, dtype=torch.int64)
    for seed in range(3):
        wrong = wrong_labels(labels, 10**6, 0.4, seed=seed) > 0
        shown_first = wrong[shuffled(labels, torch.Generator().manual_seed(seed))[:400]]  # as in the first epoch of 0
        assert 0.3 < shown_first.float().mean() < 0.5


def test_wrong_labels_are_a_fixed_share_of_random_ones() -> None:
    labels = torch.arange(1000) % 10
    told = wrong_labels(labels, 10, 0.4, seed=3)
    assert torch.equal(told, wrong_labels(labels, 10, 0.4, seed=3))
    assert 0.3 < (told != labels).float().mean() < 0.4  # a tenth of the 40 % is right by chance
    assert not torch.equal(told, wrong_labels(labels, 10, 0.4, seed=4))


@pytest.mark.parametrize(
    ("method", "own"),
    [("dml", []), ("hssakd", ["joint/b_ce"]), ("mcl", ["contrast/b_vcl", "contrast/b_icl"])],
)
def test_other_labels_reach_the_losses_of_their_student_and_no_other(method: str, own: list[str]) -> None:
    cohort, _ = make_cohort(PAIR, ["rotation", "rotation"], method=method)
    cohort.eval()
    batch = make_batch()
    fine = cohort(batch)
    harmed = cohort(batch._replace(told={"b": batch.labels.roll(1)}))
    assert {name for name in fine if not torch.equal(fine[name], harmed[name])} == {"b/ce", "b/rotation", *own}


def test_a_weight_of_one_methods_links_is_not_given_to_the_others_and_one_of_a_task_is() -> None:
    given = {**TINY, "method": "dml", "weights": {"*/peers_kl": 2.0, "a/rotation": 0.5}}
    entries = {entry.name: entry.config for entry in stress_entries(given, ["dml", "ffl"], {"lr10": 1})}
    assert entries["dml_lr10-seed0"].weights == {"*/peers_kl": 2.0, "a/rotation": 0.5}
    for name in ("independent_healthy-seed0", "ffl_lr10-seed0"):
        assert entries[name].weights == {"a/rotation": 0.5}
        build(entries[name])  # a weight of no loss would be refused


def test_a_collapse_test_of_a_recipe_without_tasks_has_none_for_any_method_and_keeps_both_students() -> None:
    given = {"students": "resnet8", "method": "collaborative", "weights": {"*/ce": 0.5}}
    for entry in stress_entries(given, ["dml", "collaborative"], {"lr10": 1}):
        assert entry.config.tasks == [[], []], entry.name
        config = build(entry.config.model_copy(update={"epochs": 1})).config
        assert list(config.students) == ["resnet8_1", "resnet8_2"], entry.name


def test_every_image_keeps_its_wrong_label_for_all_of_training() -> None:
    loader = build(make_config({**TINY, "poison": {"student": "b", "random_labels": 0.8}})).loader
    told: list[dict[int, int]] = []
    for epoch in (0, 1):
        own: dict[int, int] = {}
        for step in range(len(loader)):
            rows, batch = loader.at(epoch * len(loader) + step)
            assert batch.told is not None
            assert set(batch.told) == {"b"}
            own |= dict(zip(rows.tolist(), batch.told["b"].tolist(), strict=True))
        told.append(own)
    both = told[0].keys() & told[1].keys()
    assert both
    assert all(told[0][row] == told[1][row] for row in both)


def test_the_learning_rate_is_that_student_s_alone() -> None:
    config = make_config({**TINY, "poison": {"student": "b", "learning_rate": 10.0}})
    experiment = build(config)
    groups = experiment.runtime.optimizer(experiment.cohort, {"b": 10.0}, lr=0.1).param_groups
    assert {group["name"]: group["lr_factor"] for group in groups if group["name"][0] in "ab"} == {
        "a": 1.0,
        "a/rotation": 1.0,
        "b": 10.0,
        "b/supcon": 10.0,
    }


def test_fresh_weights_take_no_random_numbers_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = build(make_config(TINY))

    def seeded(seed: int) -> None:
        raise AssertionError("its generator started over")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    state = torch.random.get_rng_state()
    one, other = (fresh_student(experiment, "b").state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_student_is_drawn_anew_exactly_at_its_step_and_a_resumed_run_is_the_same(
    tmp_path: Path, optimizer: str
) -> None:
    poison = {"student": "b", "reinitialise": 0.5}
    config = make_config({**TINY, "method": "dml", "tasks": "none", "optimizer": optimizer, "poison": poison})
    trainer.train(config, tmp_path / "whole", Silent())
    fresh = fresh_student(build(config), "b").state_dict()

    class Ended(Exception):
        pass

    class EndsInTheSecondEpoch(Silent):
        def tick(self, progress) -> None:  # type: ignore[no-untyped-def]
            if progress.epoch == 2:
                raise Ended

    with pytest.raises(Ended):
        trainer.train(config, tmp_path / "cut", EndsInTheSecondEpoch())
    saved = read(tmp_path / "cut" / "checkpoint.pt")["cohort"]
    own = {key.removeprefix("students.b."): value for key, value in saved.items() if key.startswith("students.b.")}
    assert all(torch.equal(own[key], fresh[key]) for key in fresh)
    trainer.train(config, tmp_path / "cut", Silent(), resume=True)
    whole, cut = (json.loads((tmp_path / run / "summary.json").read_text()) for run in ("whole", "cut"))
    assert whole["test_accuracy"] == cut["test_accuracy"]
    for name in PAIR:
        one, other = (load_file(tmp_path / run / "students" / f"{name}.safetensors") for run in ("whole", "cut"))
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poison": {"student": "c", "random_labels": 0.5}}, "Unknown student in poison 'c'. .*Choices: a, b"),
        ({"poison": {"student": "b"}}, "poison should name a student and one of random_labels"),
        ({"poison": {"student": "b", "random_labels": 0.5, "learning_rate": 2}}, "one of random_labels"),
        ({"poison": {"student": "b", "random_labels": 1.5}}, "random_labels"),
        ({"poison": {"student": "b", "labels": 0.5}}, "labels"),
        (
            {"poison": {"student": "b", "random_labels": 0.5}, "augment": {"mixup": 0.2}, "tasks": "none"},
            "do not go together",
        ),
    ],
)
def test_a_poison_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config({**TINY, **changes})


def test_a_shared_trunk_cannot_be_poisoned() -> None:
    poison = {"student": "b", "learning_rate": 10.0}
    with pytest.raises(UserError, match="method 'one' shares a trunk"):
        build(make_config({**TINY, "method": "one", "tasks": "none", "poison": poison}))


def test_the_control_is_always_trained_and_listens_to_nobody() -> None:
    names = [name for name, _ in stress_entries(TINY, ["dml"], {"labels80": 2, "reinit": 1})]
    assert names == [
        "independent_healthy-seed0",
        "dml_healthy-seed0",
        "dml_labels80-seed0",
        "dml_reinit-seed0",
        "independent_healthy-seed1",
        "dml_healthy-seed1",
        "dml_labels80-seed1",
    ]


def test_a_smaller_peer_is_another_model() -> None:
    (entry,) = [
        entry.config
        for entry in stress_entries(
            {**TINY, "students": {"a": "resnet20", "b": "resnet20"}}, ["dml"], {"small": 1}, smaller="resnet8"
        )
        if entry.name == "dml_small-seed0"
    ]
    assert entry.students == {"a": "resnet20", "b": "resnet8"}
    with pytest.raises(UserError, match="add --smaller MODEL"):
        stress_entries(TINY, ["dml"], {"small": 1})
    with pytest.raises(UserError, match=r"Unknown poison 'lr100'. Did you mean 'lr10'"):
        stress_entries(TINY, ["dml"], {"lr100": 1})


def test_the_table_pairs_runs_by_seed(tmp_path: Path) -> None:
    accuracies = {
        "independent_healthy": [50.0, 60.0],
        "dml_healthy": [52.0, 61.0],
        "dml_labels80": [49.0, 56.0],
    }
    entries = stress_entries(TINY, ["dml"], {"labels80": 2})
    for entry in entries:
        method, _, seed = entry.name.rpartition("-seed")
        (tmp_path / entry.name).mkdir()
        test = {"students": {"a": accuracies[method][int(seed)], "b": 0.0}, "teacher": None, "ensemble": 0.0}
        summary = {
            "test_accuracy": test,
            "parameters": {"students": {}, "training_only": 0},
            "seconds": 1.0,
            "seed": int(seed),
        }
        (tmp_path / entry.name / "summary.json").write_text(json.dumps(summary))
    rows = harms([tmp_path / entry.name for entry in entries], "a")
    assert [(row.poison, row.minus_alone, row.minus_healthy) for row in rows] == [
        ("healthy", [2.0, 1.0], [0.0, 0.0]),
        ("labels80", [-1.0, -4.0], [-3.0, -5.0]),
    ]
    header = ["peer", "dml", "seeds"]
    assert against_alone(rows) == (header, [["healthy", "+1.50 ± 0.71", "2"], ["labels80", "-2.50 ± 2.12", "2"]])
    assert against_healthy(rows) == (header, [["labels80", "-4.00 ± 1.41", "2"]])


def test_a_method_with_fewer_seeds_than_others_says_so() -> None:
    rows = [Harm("dml", "lr10", [-1.0], []), Harm("ffl", "lr10", [1.0, 2.0], [])]
    assert against_alone(rows)[1] == [["lr10", "-1.00 (1)", "+1.50 ± 0.71", "2"]]
    assert against_healthy(rows)[1] == []


def test_settings_of_a_method_hold_for_it_and_others_have_their_own() -> None:
    given = {**TINY, "method": {"name": "collaborative", "reliability": 2.0}}
    entries = stress_entries(given, ["dml", "collaborative"], {"labels80": 1})
    methods = {entry.config.method.name: entry.config.method.settings for entry in entries}
    assert methods["collaborative"]["reliability"] == 2.0
    assert methods["dml"] == make_config({"method": "dml"}).method.settings
