"""Diverse peers and their leader against the formulas in loops."""

import math

import pytest
import references
import torch
from cohorts import CLASSES, assert_compiled_losses_are_the_same, assert_every_parameter_learns, make_batch, make_cohort

from codistill import Batch, StudentOutput, StudentShape, UserError
from codistill.methods.okddip import DiversePeers, Group, log_attention, mix, okddip

THREE = {"a": "resnet8", "b": "resnet8", "c": "resnet8"}
FOUR = {**THREE, "d": "resnet8"}
CNNS = {"a": "cnn", "b": "cnn", "c": "cnn"}
MIXED = {"a": "resnet8", "b": "cnn", "c": "vit"}
EMPTY = Batch(torch.zeros(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64))


def literal_attention(query: torch.Tensor, key: torch.Tensor) -> list[list[list[float]]]:
    """s[a][b][image]: how much peer a listens to peer b."""
    peers, images = query.shape[:2]
    shares = [[[0.0] * images for _ in range(peers)] for _ in range(peers)]
    for a in range(peers):
        for image in range(images):
            q = query[a, image].tolist()
            products = [sum(x * y for x, y in zip(q, key[b, image].tolist(), strict=True)) for b in range(peers)]
            for b, share in enumerate(references.softmax(products)):
                shares[a][b][image] = share
    return shares


def literal_mix(shares: list[list[float]], logits: torch.Tensor, temperature: float | None = None) -> torch.Tensor:
    """One learner's target: shares[b][image] of logits (P, B, K), or of the probabilities that they soften to."""
    target = torch.zeros(logits.shape[1:])
    for image in range(logits.shape[1]):
        total = [0.0] * logits.shape[2]
        for b in range(len(logits)):
            row = logits[b, image].tolist()
            said = row if temperature is None else references.softmax([value / temperature for value in row])
            total = [t + shares[b][image] * value for t, value in zip(total, said, strict=True)]
        target[image] = torch.tensor(total if temperature is None else [temperature * math.log(p) for p in total])
    return target


def random_outputs(sizes: dict[str, int]) -> dict[str, StudentOutput]:
    return {name: StudentOutput(torch.randn(4, CLASSES), torch.randn(4, size), ()) for name, size in sizes.items()}


def test_attention_and_both_mixtures_are_the_literal_ones() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 4, 8)
    logits = torch.randn(3, 4, CLASSES)
    found, expected = log_attention(query, key), literal_attention(query, key)
    torch.testing.assert_close(found.exp(), torch.tensor(expected), atol=1e-5, rtol=0)
    assert not torch.allclose(found, found.transpose(0, 1))  # a listens to b as b does not to a
    for temperature in (None, 3.0):
        targets = mix(found, logits, temperature)
        for a in range(3):
            torch.testing.assert_close(targets[a], literal_mix(expected[a], logits, temperature), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mix_at", [None, 3.0])
def test_peers_of_one_width_share_their_projections_and_others_have_their_own(mix_at: float | None) -> None:
    torch.manual_seed(0)
    sizes = {"a": 6, "b": 9, "c": 6}
    teacher = DiversePeers({name: StudentShape(CLASSES, size, ()) for name, size in sizes.items()}, mix_at=mix_at)
    outputs = random_outputs(sizes)
    assert sorted(teacher.query) == ["6", "9"]
    query = torch.stack([outputs[n].embedding @ teacher.query[str(size)].weight.T for n, size in sizes.items()])
    key = torch.stack([outputs[n].embedding @ teacher.key[str(size)].weight.T for n, size in sizes.items()])
    shares, targets = literal_attention(query, key), teacher(outputs, EMPTY).targets
    logits = torch.stack([outputs[name].logits for name in sizes])
    assert list(targets) == ["a", "b", "c"]
    for a, name in enumerate(sizes):
        torch.testing.assert_close(targets[name].logits[0], literal_mix(shares[a], logits, mix_at), atol=1e-5, rtol=0)
        assert targets[name].weights.tolist() == [1.0]


@pytest.mark.parametrize("mix_at", [None, 3.0])
def test_the_leaders_target_is_the_plain_mean_of_the_peers(mix_at: float | None) -> None:
    torch.manual_seed(0)
    outputs = random_outputs({"a": 6, "b": 6, "c": 6})
    target = Group(["a", "b", "c"], "d", mix_at)(outputs, EMPTY).targets["d"]
    logits = torch.stack([output.logits for output in outputs.values()])
    torch.testing.assert_close(target.logits[0], literal_mix([[1 / 3] * 4] * 3, logits, mix_at), atol=1e-5, rtol=0)
    assert target.weights.tolist() == [1.0]


@pytest.mark.parametrize(("leader", "peers"), [(None, "abc"), ("b", "acd")])
def test_peers_learn_from_their_mixture_and_the_leader_from_the_mean(leader: str | None, peers: str) -> None:
    cohort, objective = make_cohort(FOUR, method=okddip, leader=leader)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    led = leader or "d"
    assert set(losses) == {*(f"{n}/ce" for n in FOUR), *(f"{n}/peers_kl" for n in peers), f"{led}/group_kl"}
    outputs = {name: student(batch.images) for name, student in cohort.students.items()}
    targets = cohort.teachers["peers"](outputs, batch).targets  # type: ignore[operator]
    for name in peers:
        expected = references.kl(logits[name], targets[name].logits[0], 3.0)
        assert losses[f"{name}/peers_kl"].item() == pytest.approx(expected, abs=1e-5)
    mean = sum(logits[name] for name in peers) / 3
    assert losses[f"{led}/group_kl"].item() == pytest.approx(references.kl(logits[led], mean, 3.0), abs=1e-5)
    total = sum(
        loss.item() * (references.ramp(1.0, 0.27, 0.1) if "_kl" in key else 1.0) for key, loss in losses.items()
    )
    assert objective(losses, progress=0.1).item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("through_target", [False, True])
def test_the_attention_learns_from_the_peers_links_alone(through_target: bool) -> None:
    settings = {"shared_trunk": False, "through_target": through_target}
    cohort, _ = make_cohort({"a": "resnet8", "b": "cnn", "leader": "resnet8"}, method=okddip, **settings)
    losses = cohort(make_batch())
    expected = {
        "a/ce": {"a"},
        "b/ce": {"b"},
        "leader/ce": {"leader"},
        "a/peers_kl": {"a", "b", "attention"} if through_target else {"a", "attention"},
        "b/peers_kl": {"a", "b", "attention"} if through_target else {"b", "attention"},
        "leader/group_kl": {"a", "b", "leader"} if through_target else {"leader"},
    }
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {
            "attention" if key.startswith("teachers.peers.") else key.split(".")[1]
            for key, parameter in cohort.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }
        assert reached == expected[name], name


@pytest.mark.parametrize("aggregate", ["logits", "probabilities"])
@pytest.mark.parametrize("through_target", [False, True])
@pytest.mark.parametrize(
    ("students", "shared_trunk"), [(THREE, True), (THREE, False), (MIXED, False)], ids=["trunk", "equal", "mixed"]
)
def test_a_step_gives_every_parameter_a_gradient(
    students: dict[str, str], shared_trunk: bool, through_target: bool, aggregate: str
) -> None:
    settings = {"shared_trunk": shared_trunk, "through_target": through_target, "aggregate": aggregate}
    cohort, objective = make_cohort(students, method=okddip, **settings)
    assert_every_parameter_learns(cohort, objective)


@pytest.mark.parametrize(("students", "shared_trunk"), [(THREE, True), (CNNS, False)], ids=["trunk", "separate"])
def test_a_compiled_cohort_gives_the_same_losses(students: dict[str, str], shared_trunk: bool) -> None:
    cohort, _ = make_cohort(students, method=okddip, shared_trunk=shared_trunk)
    assert_compiled_losses_are_the_same(cohort)


@pytest.mark.parametrize("aggregate", ["logits", "probabilities"])
@pytest.mark.parametrize("size", [1, 6])
def test_one_class_one_image_and_peers_that_agree_give_finite_losses(size: int, aggregate: str) -> None:
    cohort, objective = make_cohort(THREE, method=okddip, aggregate=aggregate)
    for name in ("b", "c"):
        cohort.students[name].load_state_dict(cohort.students["a"].state_dict())
    batch = make_batch(size)
    losses = cohort(batch._replace(labels=torch.zeros_like(batch.labels)))
    assert all(loss.item() == pytest.approx(0.0, abs=1e-5) for name, loss in losses.items() if name.endswith("_kl"))
    objective(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cohort.parameters())


def test_peers_that_are_sure_of_themselves_and_of_whom_they_hear_give_finite_gradients() -> None:
    query = torch.full((2, 1, 8), 100.0) * torch.tensor([1.0, -1.0]).view(2, 1, 1)
    logits = torch.tensor([[[500.0, -500.0]], [[-500.0, 500.0]]], requires_grad=True)
    query.requires_grad_()
    mix(log_attention(query, query), logits, 1.0).sum().backward()
    for leaf in (query, logits):
        assert torch.as_tensor(leaf.grad).isfinite().all()


@pytest.mark.parametrize(
    ("students", "settings", "message"),
    [
        ({"a": "resnet8", "b": "resnet8"}, {}, "three students or more: .* got 2"),
        (THREE, {"leader": "d"}, "Unknown leader 'd'. Choices: a, b, c"),
        (MIXED, {}, "all students must be the same model"),
    ],
)
def test_cohorts_that_cannot_be_peers_are_refused(students: dict[str, str], settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_cohort(students, method=okddip, **settings)
