"""Which loss trains which module: the whole map, for each method."""

import pytest
import torch
from cohorts import assert_each_loss_trains, make_batch, make_cohort

STUDENTS = {"a": "resnet8", "b": "cnn"}
OWN = {
    "a/ce": {"students.a"},
    "b/ce": {"students.b"},
    "a/rotation": {"students.a", "tasks.a.rotation"},
    "b/supcon": {"students.b", "tasks.b.supcon"},
}
PEERS = {"a/peers_kl": {"students.a"}, "b/peers_kl": {"students.b"}}
TO_STUDENTS = {**PEERS, "a/cpm_kl": {"students.a"}, "b/cpm_kl": {"students.b"}}
THROUGH = {"teachers.cpm", "students.a", "students.b"}


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("independent", {}, OWN),
        ("dml", {}, {**OWN, **PEERS}),
        (
            "collaborative",
            {"train_students": True},
            {**OWN, **TO_STUDENTS, "cpm/ce": THROUGH, "cpm/a_kl": THROUGH, "cpm/b_kl": THROUGH},
        ),
        (
            "collaborative",
            {"train_students": False},
            {**OWN, **TO_STUDENTS, **{loss: {"teachers.cpm"} for loss in ("cpm/ce", "cpm/a_kl", "cpm/b_kl")}},
        ),
    ],
)
def test_each_loss_trains_these_modules_and_no_others(
    method: str, settings: dict[str, bool], expected: dict[str, set[str]]
) -> None:
    cohort, _ = make_cohort(STUDENTS, ["rotation", "supcon"], method, **settings)
    assert_each_loss_trains(cohort, expected)


def test_a_student_that_nobody_listens_to_still_learns() -> None:
    cohort, _ = make_cohort(STUDENTS, method="collaborative")
    trust = cohort.teachers["reliability"]
    trust.running_ce.copy_(torch.tensor([0.0, 1000.0]))  # type: ignore[union-attr,operator]
    losses = cohort(make_batch())
    assert losses["a/peers_kl"].item() == 0.0
    assert losses["b/peers_kl"].item() > 0.0
