"""On-the-fly native ensemble against its formula in loops."""

import math

import pytest
import references
import torch
from cohorts import (
    CLASSES,
    SIZE,
    assert_compiled_losses_are_the_same,
    assert_every_parameter_learns,
    make_batch,
    make_cohort,
)

from codistill import Batch, Cohort, StudentOutput, StudentShape, UserError
from codistill.methods.one import Gate, gated_sum, one

TWO = {"a": "resnet8", "b": "resnet8"}
THREE = {**TWO, "c": "resnet8"}
CNNS = {"a": "cnn", "b": "cnn"}
MIXED = {"a": "resnet8", "b": "cnn", "c": "vit"}


def literal_shares(gate: Gate, feature_map: torch.Tensor) -> list[list[float]]:
    """g for each image: mean over positions, linear, batch normalisation over the batch, ReLU, softmax."""
    scores = []
    for image in feature_map.tolist():
        pooled = [sum(map(sum, channel)) / (len(channel) * len(channel[0])) for channel in image]
        rows = zip(gate.linear.weight.tolist(), gate.linear.bias.tolist(), strict=True)
        scores.append([sum(w * x for w, x in zip(row, pooled, strict=True)) + bias for row, bias in rows])
    for branch, (scale, shift) in enumerate(zip(gate.norm.weight.tolist(), gate.norm.bias.tolist(), strict=True)):
        column = [row[branch] for row in scores]
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        for row in scores:
            row[branch] = max(0.0, (row[branch] - mean) / math.sqrt(variance + 1e-5) * scale + shift)
    return [references.softmax(row) for row in scores]


def literal_ensemble(shares: list[list[float]], logits: list[torch.Tensor]) -> torch.Tensor:
    rows = [
        [sum(g * float(z[b, k]) for g, z in zip(row, logits, strict=True)) for k in range(CLASSES)]
        for b, row in enumerate(shares)
    ]
    return torch.tensor(rows)


def trunk_reached(cohort: Cohort, loss: torch.Tensor) -> set[str]:
    """Where the loss has a gradient: the trunk, each branch, the gate."""
    cohort.zero_grad()
    loss.backward(retain_graph=True)
    reached = set()
    for key, parameter in cohort.named_parameters():
        if parameter.grad is not None and parameter.grad.abs().max() > 0:
            owner, name = key.split(".")[:2]
            own = owner == "teachers" or "stages.2" in key or "classifier" in key
            reached.add(name if own else "trunk")
    return reached


def test_the_answer_is_the_sum_of_the_branches_by_their_shares() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, CLASSES)
    shares = torch.randn(4, 3).softmax(dim=-1)
    expected = literal_ensemble(shares.tolist(), list(logits))
    torch.testing.assert_close(gated_sum(shares, logits), expected, atol=1e-5, rtol=0)


def test_the_gate_on_a_trunk_is_the_literal_one() -> None:
    torch.manual_seed(0)
    gate = Gate({name: StudentShape(CLASSES, 8, ((6, 4, 4), (8, 2, 2))) for name in "abc"})
    torch.nn.init.normal_(gate.norm.weight)
    torch.nn.init.normal_(gate.norm.bias)
    trunk = torch.randn(5, 6, 4, 4) + 1.0
    logits = torch.randn(3, 5, CLASSES)
    outputs = {
        name: StudentOutput(z, torch.randn(5, 8), (trunk, torch.randn(5, 8, 2, 2)))
        for name, z in zip("abc", logits, strict=True)
    }
    shares = literal_shares(gate, trunk)
    torch.testing.assert_close(gate.shares(outputs), torch.tensor(shares), atol=1e-5, rtol=0)
    labels = [0, 4, 2, 2, 1]
    taught = gate(outputs, Batch(torch.zeros(5, 3, SIZE, SIZE), torch.tensor(labels)))
    expected = literal_ensemble(shares, list(logits))
    assert taught.losses["ce"].item() == pytest.approx(references.cross_entropy(expected, labels), abs=1e-5)
    for target in taught.targets.values():
        torch.testing.assert_close(target.logits[0], expected, atol=1e-5, rtol=0)
        assert target.weights.tolist() == [1.0]


def test_the_gate_over_separate_networks_reads_the_last_maps_of_all() -> None:
    torch.manual_seed(0)
    gate = Gate({"a": StudentShape(CLASSES, 8, ((6, 4, 4),)), "b": StudentShape(CLASSES, 5, ((7, 2, 2),))}, False)
    maps = [torch.randn(5, 6, 4, 4), torch.randn(5, 7, 2, 2)]
    outputs = {
        n: StudentOutput(torch.randn(5, CLASSES), torch.randn(5, 8), (m,)) for n, m in zip("ab", maps, strict=True)
    }
    joined = torch.cat([m.mean(dim=(-2, -1)) for m in maps], dim=1)[..., None, None]
    torch.testing.assert_close(gate.shares(outputs), torch.tensor(literal_shares(gate, joined)), atol=1e-5, rtol=0)


def test_every_branch_learns_from_the_ensemble_and_the_ensemble_from_the_labels() -> None:
    cohort, objective = make_cohort(THREE, method=one)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    assert set(losses) == {"a/ce", "b/ce", "c/ce", "gate/ce", "a/gate_kl", "b/gate_kl", "c/gate_kl"}
    assert list(logits) == ["a", "b", "c", "gate"]
    for name in THREE:
        expected = references.kl(logits[name], logits["gate"], 3.0)
        assert losses[f"{name}/gate_kl"].item() == pytest.approx(expected, abs=1e-5)
    expected = references.cross_entropy(logits["gate"], batch.labels.tolist())
    assert losses["gate/ce"].item() == pytest.approx(expected, abs=1e-5)
    total = sum(
        loss.item() * (references.ramp(1.0, 0.27, 0.1) if "_kl" in key else 1.0) for key, loss in losses.items()
    )
    assert objective(losses, progress=0.1).item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("through_target", [False, True])
def test_the_labels_train_the_ensemble_whole_and_the_links_their_own_branch(through_target: bool) -> None:
    cohort, _ = make_cohort(TWO, method=one, through_target=through_target)
    losses = cohort(make_batch())
    everything = {"trunk", "a", "b", "gate"}
    assert trunk_reached(cohort, losses["a/ce"]) == {"trunk", "a"}
    assert trunk_reached(cohort, losses["b/ce"]) == {"trunk", "b"}
    assert trunk_reached(cohort, losses["gate/ce"]) == everything
    assert trunk_reached(cohort, losses["a/gate_kl"]) == (everything if through_target else {"trunk", "a"})
    assert trunk_reached(cohort, losses["b/gate_kl"]) == (everything if through_target else {"trunk", "b"})


@pytest.mark.parametrize(
    ("students", "shared_trunk"),
    [(TWO, True), (THREE, True), (TWO, False), ({"a": "resnet8", "b": "cnn"}, False), (MIXED, False)],
    ids=str,
)
def test_a_step_gives_every_parameter_a_gradient(students: dict[str, str], shared_trunk: bool) -> None:
    cohort, objective = make_cohort(students, method=one, shared_trunk=shared_trunk)
    assert_every_parameter_learns(cohort, objective)


@pytest.mark.parametrize(("students", "shared_trunk"), [(TWO, True), (CNNS, False)], ids=["trunk", "separate"])
def test_a_compiled_cohort_gives_the_same_losses(students: dict[str, str], shared_trunk: bool) -> None:
    cohort, _ = make_cohort(students, method=one, shared_trunk=shared_trunk)
    assert_compiled_losses_are_the_same(cohort)


def test_a_batch_of_one_class_and_branches_that_agree_give_finite_losses() -> None:
    cohort, objective = make_cohort(TWO, method=one)
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    batch = make_batch()
    losses = cohort(batch._replace(labels=torch.zeros_like(batch.labels)))
    assert losses["a/gate_kl"].item() == pytest.approx(0.0, abs=1e-5)
    objective(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cohort.parameters())


def test_one_image_can_be_judged() -> None:
    cohort, _ = make_cohort(TWO, method=one)
    assert all(loss.isfinite() for loss in cohort.eval()(make_batch(1)).values())


def test_different_networks_cannot_share_a_trunk() -> None:
    with pytest.raises(UserError, match="all students must be the same model"):
        make_cohort(MIXED, method=one)
