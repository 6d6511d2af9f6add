"""The ensemble of embeddings and the peers' moving averages, against loops."""

from copy import deepcopy

import pytest
import references
import torch
from cohorts import (
    assert_compiled_losses_are_the_same,
    assert_one_class_of_identical_students_is_finite,
    gradients,
    make_batch,
    make_cohort,
    without_gradient,
)

from codistill import Cohort
from codistill.core.objective import Ramp
from codistill.methods.pcl import PeerMeans, pcl

TWO = {"a": "resnet8", "b": "resnet8"}
THREE = dict.fromkeys("abc", "resnet8")
MIXED = {"a": "resnet8", "b": "cnn", "c": "vit"}
COHORTS = [TWO, {"a": "resnet8", "b": "cnn"}, MIXED]


def means_of(cohort: Cohort) -> PeerMeans:
    means = cohort.teachers["means"]
    assert isinstance(means, PeerMeans)
    return means


def disturb(cohort: Cohort) -> None:
    """Stands in for an optimizer step of the students."""
    with torch.no_grad():
        for parameter in cohort.students.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("own", [True, False])
def test_every_loss_is_the_formulas_with_each_average_on_its_students_augmentation(own: bool) -> None:
    cohort, objective = make_cohort(MIXED, method=pcl, own_augmentations=own, ramp=0.25)
    assert cohort.augmentations == (3 if own else 1)
    disturb(cohort)  # else the averages would say what the students say
    cohort.eval()
    batch = make_batch()
    losses, means = cohort(batch), means_of(cohort).means
    seen = {name: batch.augmentation(number if own else 0) for number, name in enumerate(MIXED)}
    said = {name: cohort.students[name](images) for name, images in seen.items()}
    averaged = {name: means[name](images).logits for name, images in seen.items()}
    classifier = cohort.teachers["ensemble"].classifier
    rows = [[value for name in MIXED for value in said[name].embedding[b].tolist()] for b in range(6)]
    ensemble = torch.tensor([[sum(map(float.__mul__, w, row)) for w in classifier.weight.tolist()] for row in rows])
    ensemble = ensemble + classifier.bias
    labels = batch.labels.tolist()
    expected = {"ensemble/ce": references.cross_entropy(ensemble, labels)}
    for name in MIXED:
        kls = [references.kl(said[name].logits, averaged[other], 3.0) for other in MIXED if other != name]
        expected[f"{name}/ce"] = references.cross_entropy(said[name].logits, labels)
        expected[f"{name}/ensemble_kl"] = references.kl(said[name].logits, ensemble, 3.0)
        expected[f"{name}/means_kl"] = sum(kls) / 2
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-5, rel=1e-5), name
    assert objective.table(losses) == {n: 1.0 if n.endswith("/ce") else Ramp(1.0, over=0.25) for n in sorted(losses)}


def test_the_averages_are_a_copy_then_the_mean_of_all_steps_then_exponential() -> None:
    cohort, _ = make_cohort(MIXED, method=pcl, decay=0.75)
    start = means_of(cohort)
    for mean, parameter in zip(start.means.parameters(), cohort.students.parameters(), strict=True):
        torch.testing.assert_close(mean, parameter, atol=0, rtol=0)
    steps, literal = [], 0.0
    for step in range(8):
        disturb(cohort)
        cohort.after_step()
        now = cohort.students["b"].backbone.stages[0].weight[0, 0, 0, 0].item()
        steps.append(now)
        kept = min(1 - 1 / (step + 1), 0.75)
        literal = kept * literal + (1 - kept) * now
        mean = means_of(cohort).means["b"].backbone.stages[0].weight[0, 0, 0, 0].item()
        assert mean == pytest.approx(literal, abs=1e-6)
        if step < 4:
            assert mean == pytest.approx(sum(steps) / len(steps), abs=1e-6)


def test_running_statistics_are_copied() -> None:
    cohort, _ = make_cohort(TWO, method=pcl)
    disturb(cohort)
    cohort(make_batch())
    cohort.after_step()
    copies, buffers = means_of(cohort).means.named_buffers(), cohort.students.named_buffers()
    for (name, copy), (_, buffer) in zip(copies, buffers, strict=True):
        torch.testing.assert_close(copy, buffer, atol=0, rtol=0, msg=name)


def test_a_restored_cohort_averages_on_as_if_nothing_had_happened() -> None:
    cohort, _ = make_cohort(TWO, method=pcl, decay=0.9)
    other, _ = make_cohort(TWO, method=pcl, decay=0.9, seed=1)
    for _ in range(3):
        disturb(cohort)
        cohort.after_step()
    other.load_state_dict(cohort.state_dict())
    disturb(cohort)
    other.students.load_state_dict(cohort.students.state_dict())
    cohort.after_step()
    other.after_step()
    torch.testing.assert_close(other.state_dict(), cohort.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_the_averages_normalise_by_the_batch_or_by_running_statistics(batch_statistics: bool) -> None:
    cohort, _ = make_cohort(TWO, method=pcl, batch_statistics=batch_statistics)
    batch = make_batch()
    alone = deepcopy(cohort.students["b"]).train(batch_statistics)
    expected = alone(batch.augmentation(1)).logits
    cohort.train()
    target = means_of(cohort)({}, batch).targets["a"]
    torch.testing.assert_close(target.logits[0], expected)
    assert not any(module.training for module in means_of(cohort.eval()).means.modules())


def test_the_averages_have_no_dropout() -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "vit"}, method=pcl)
    batch = make_batch()
    expected = deepcopy(cohort.students["b"]).eval()(batch.augmentation(1)).logits
    torch.testing.assert_close(means_of(cohort)({}, batch).targets["a"].logits[0], expected)


@pytest.mark.parametrize("train_students", [True, False])
def test_each_loss_trains_these_modules_and_no_others(train_students: bool) -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "cnn"}, method=pcl, train_students=train_students)
    disturb(cohort)
    through = {"students.a", "students.b", "teachers.ensemble"} if train_students else {"teachers.ensemble"}
    expected = {f"{name}/{loss}": {f"students.{name}"} for name in "ab" for loss in ("ce", "ensemble_kl", "means_kl")}
    expected["ensemble/ce"] = through
    losses = cohort(make_batch())
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {".".join(key.split(".")[:2]) for key, gradient in gradients(cohort).items() if gradient.any()}
        assert reached == expected[name], name


@pytest.mark.parametrize("students", COHORTS, ids=str)
def test_cohorts_of_any_kind_train_a_step(students: dict[str, str]) -> None:
    cohort, objective = make_cohort(students, method=pcl)
    objective(cohort(make_batch())).backward()
    cohort.after_step()
    assert without_gradient(cohort) == []
    assert "means" not in cohort.parameter_groups()  # nothing of them is optimised


def test_branches_of_one_network_train_a_step_and_their_averages_share_a_trunk_too() -> None:
    cohort, objective = make_cohort(THREE, method=pcl, shared_trunk=True, own_augmentations=False)
    objective(cohort(make_batch())).backward()
    assert without_gradient(cohort) == []
    disturb(cohort)
    cohort.after_step()
    means = means_of(cohort).means
    assert means["a"].backbone.conv is means["c"].backbone.conv
    torch.testing.assert_close(means["c"].backbone.conv.weight, cohort.students["a"].backbone.conv.weight)


def test_branches_of_one_network_see_augmentations_of_their_own() -> None:
    cohort, _ = make_cohort(THREE, method=pcl, shared_trunk=True)
    cohort.eval()
    batch = make_batch()
    losses = cohort(batch)
    for number, name in enumerate(THREE):
        logits = cohort.students[name](batch.augmentation(number)).logits
        expected = references.cross_entropy(logits, batch.labels.tolist())
        assert losses[f"{name}/ce"].item() == pytest.approx(expected, abs=1e-5)


def test_a_compiled_cohort_gives_the_same_losses() -> None:
    cohort, _ = make_cohort(MIXED, method=pcl)
    assert_compiled_losses_are_the_same(cohort)


def test_one_class_one_image_and_identical_students_have_finite_losses() -> None:
    cohort, objective = make_cohort(TWO, method=pcl)
    assert_one_class_of_identical_students_is_finite(cohort, objective)


def test_the_ensemble_is_predicted_and_the_averages_are_not() -> None:
    cohort, _ = make_cohort(TWO, method=pcl)
    assert list(cohort.eval().predict(make_batch(3).images)) == ["a", "b", "ensemble"]
