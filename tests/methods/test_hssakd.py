"""Joint labels on every stage, learned from the label and from peers."""

import pytest
import references
import torch
from cohorts import (
    CLASSES,
    assert_compiled_losses_are_the_same,
    assert_each_loss_trains,
    assert_every_parameter_learns,
    make_batch,
    make_cohort,
)

from codistill import Batch, Cohort, StudentOutput
from codistill.core.views import QUARTER_TURNS, VIEWS
from codistill.methods.hssakd import hssakd, mutual_kl

EQUAL = {"a": "resnet8", "b": "resnet8"}
UNEQUAL = {"a": "resnet8", "b": "cnn"}
THREE = {"a": "resnet8", "b": "cnn", "c": "vit"}


def turned_outputs(cohort: Cohort, batch: Batch) -> dict[str, StudentOutput]:
    """What each student of a cohort in evaluation mode says about all four turns, turn by turn."""
    images = torch.cat([VIEWS[view](batch.images, None) for view in QUARTER_TURNS])
    return {name: student(images) for name, student in cohort.students.items()}


def joint_logits(cohort: Cohort, name: str, output: StudentOutput) -> list[torch.Tensor]:
    """Joint logits (4B, 4K) of a student's heads, first stage first, the embedding's last."""
    heads = cohort.teachers["joint"].heads[name]
    on_stages = [head(output.feature_maps[stage]) for stage, head in enumerate(heads.stages)]
    return [*on_stages, heads.embedding(output.embedding)]


def test_every_stage_of_every_student_has_a_joint_head() -> None:
    cohort, _ = make_cohort(THREE, method=hssakd)
    cohort.eval()
    outputs = turned_outputs(cohort, make_batch())
    shapes = {n: [tuple(head.shape) for head in joint_logits(cohort, n, outputs[n])] for n in THREE}
    assert shapes == {n: [(24, 4 * CLASSES)] * stages for n, stages in {"a": 3, "b": 2, "c": 2}.items()}


def test_the_losses_of_two_equal_students_are_the_literal_ones() -> None:
    cohort, _ = make_cohort(EQUAL, method=hssakd)
    cohort.eval()
    batch = make_batch()
    losses, outputs = cohort(batch), turned_outputs(cohort, batch)
    labels = batch.labels.tolist()
    joint = {name: joint_logits(cohort, name, outputs[name]) for name in EQUAL}
    for name, peer in (("a", "b"), ("b", "a")):
        expected = {
            f"{name}/ce": references.cross_entropy(outputs[name].logits[:6], labels),
            f"{name}/peers_kl": references.kl(outputs[name].logits, outputs[peer].logits, 3.0),
            f"joint/{name}_ce": sum(references.joint_cross_entropy(list(h.split(6)), labels) for h in joint[name]),
            f"joint/{name}_kl": sum(
                references.kl(own, other, 3.0) for own, other in zip(joint[name], joint[peer], strict=True)
            ),
        }
        for key, value in expected.items():
            assert losses[key].item() == pytest.approx(value, abs=1e-5), key


def test_students_of_different_depth_are_paired_from_the_last_stage_backwards() -> None:
    cohort, _ = make_cohort(THREE, method=hssakd)
    cohort.eval()
    batch = make_batch()
    losses, outputs = cohort(batch), turned_outputs(cohort, batch)
    joint = {name: joint_logits(cohort, name, outputs[name])[::-1] for name in THREE}
    for name in THREE:
        expected = 0.0
        for stage, own in enumerate(joint[name]):
            peers = [joint[j][stage] for j in THREE if j != name and stage < len(joint[j])]
            expected += sum(references.kl(own, peer, 3.0) for peer in peers) / max(1, len(peers))
        assert losses[f"joint/{name}_kl"].item() == pytest.approx(expected, abs=1e-5)


def test_a_head_with_fewer_peers_takes_the_mean_over_those_that_have_it() -> None:
    torch.manual_seed(0)
    own, deep, shallow = torch.randn(2, 4, 8), torch.randn(2, 4, 8), torch.randn(1, 4, 8)
    expected = (references.kl(own[0], deep[0], 2.0) + references.kl(own[0], shallow[0], 2.0)) / 2
    expected += references.kl(own[1], deep[1], 2.0)
    assert mutual_kl(list(own), [list(deep), list(shallow)], 2.0).item() == pytest.approx(expected, abs=1e-5)


def test_each_loss_trains_its_own_student_and_heads_and_no_others() -> None:
    cohort, _ = make_cohort(UNEQUAL, ["rotation", "supcon"], hssakd)
    a, b = ({f"students.{name}", f"teachers.joint.heads.{name}"} for name in "ab")
    expected = {
        "a/ce": {"students.a"},
        "b/ce": {"students.b"},
        "a/rotation": {"students.a", "tasks.a"},
        "b/supcon": {"students.b", "tasks.b"},
        "a/peers_kl": {"students.a"},
        "b/peers_kl": {"students.b"},
        "joint/a_ce": a,
        "joint/b_ce": b,
        "joint/a_kl": a,
        "joint/b_kl": b,
    }
    assert_each_loss_trains(cohort, expected)


@pytest.mark.parametrize("task", [None, "contrastive"])
@pytest.mark.parametrize("students", [EQUAL, UNEQUAL, THREE], ids=["equal", "unequal", "three"])
def test_every_parameter_learns_in_every_step(students: dict[str, str], task: str | None) -> None:
    cohort, objective = make_cohort(students, [task] * len(students), hssakd)
    assert_every_parameter_learns(cohort, objective)


def test_a_compiled_cohort_gives_the_same_losses() -> None:
    cohort, _ = make_cohort({"b": "cnn", "c": "vit"}, method=hssakd)
    assert_compiled_losses_are_the_same(cohort)


@pytest.mark.parametrize("size", [1, 4])
def test_batches_of_one_class_and_identical_students_give_finite_losses(size: int) -> None:
    cohort, objective = make_cohort(EQUAL, method=hssakd)
    for part in (cohort.students, cohort.teachers["joint"].heads):
        part["b"].load_state_dict(part["a"].state_dict())
    losses = cohort(make_batch(size)._replace(labels=torch.full((size,), 2)))
    objective(losses).backward()
    assert losses["joint/a_kl"].item() == pytest.approx(0.0, abs=1e-6)
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cohort.parameters())
