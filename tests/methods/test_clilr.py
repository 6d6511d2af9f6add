"""Collaborative learning of the heads of one trunk against its formula in loops."""

import pytest
import references
import torch
from cohorts import (
    CLASSES,
    assert_compiled_losses_are_the_same,
    assert_every_parameter_learns,
    gradients,
    make_batch,
    make_cohort,
)

from codistill import Batch, StudentOutput, UserError
from codistill.methods.clilr import clilr
from codistill.methods.peer_teachers import MeanLogits

TWO = {"a": "resnet8", "b": "resnet8"}
THREE = {**TWO, "c": "resnet8"}
CNNS = {"a": "cnn", "b": "cnn"}
MIXED = {"a": "resnet8", "b": "cnn", "c": "vit"}


def literal_mean(logits: list[torch.Tensor]) -> torch.Tensor:
    rows = [
        [sum(values) / len(values) for values in zip(*images, strict=True)]
        for images in zip(*map(torch.Tensor.tolist, logits), strict=True)
    ]
    return torch.tensor(rows)


def test_the_consensus_is_the_mean_of_the_others_logits() -> None:
    torch.manual_seed(0)
    logits = dict(zip("abc", torch.randn(3, 4, CLASSES), strict=True))
    outputs = {name: StudentOutput(z, z, ()) for name, z in logits.items()}
    consensus = MeanLogits({"a": ["b", "c"], "b": ["a"]})
    taught = consensus(outputs, Batch(torch.zeros(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64)))
    for learner, speakers in consensus.speakers.items():
        expected = literal_mean([logits[speaker] for speaker in speakers])
        torch.testing.assert_close(taught.targets[learner].logits[0], expected, atol=1e-5, rtol=0)
        assert taught.targets[learner].weights.tolist() == [1.0]


@pytest.mark.parametrize(
    ("settings", "soft"), [({}, 0.5), ({"temperature_squared": False}, 0.5 / 4), ({"beta": 0.9}, 0.1)]
)
def test_the_loss_is_the_labels_and_the_consensus_weighed_by_beta(settings: dict[str, float], soft: float) -> None:
    cohort, objective = make_cohort(THREE, method=clilr, **settings)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    total = 0.0
    for name in THREE:
        target = literal_mean([logits[other] for other in THREE if other != name])
        link = references.kl(logits[name], target, 2.0)
        label = references.cross_entropy(logits[name], batch.labels.tolist())
        assert losses[f"{name}/consensus_kl"].item() == pytest.approx(link, abs=1e-5)
        total += settings.get("beta", 0.5) * label + soft * link
    assert len(losses) == 6
    assert objective(losses, progress=0.0).item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("through_target", [False, True])
def test_a_heads_losses_train_that_head_and_the_trunk_only_unless_so_asked(through_target: bool) -> None:
    cohort, _ = make_cohort(THREE, method=clilr, through_target=through_target)
    losses = cohort(make_batch())
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {
            key.split(".")[1] if "stages.2" in key or "classifier" in key else "trunk"
            for key, parameter in cohort.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }
        everything = through_target and name.endswith("_kl")
        assert reached == {"trunk", *(THREE if everything else name[0])}, name


def test_the_trunk_hears_the_heads_divided_by_their_number() -> None:
    found = []
    for rescale in (False, True):
        cohort, objective = make_cohort(THREE, method=clilr, rescale_gradient=rescale)
        objective(cohort(make_batch())).backward()
        found.append(gradients(cohort))
    for name, full in found[0].items():
        in_branch = "stages.2" in name or "classifier" in name
        torch.testing.assert_close(found[1][name], full if in_branch else full / 3, atol=1e-6, rtol=1e-4)


def test_separate_networks_are_not_rescaled() -> None:
    cohort, _ = make_cohort(MIXED, method=clilr, shared_trunk=False)
    assert cohort.method.trunk_gradient == 1.0
    assert not cohort.method.shared_trunk


@pytest.mark.parametrize(
    ("students", "shared_trunk"),
    [(TWO, True), (THREE, True), (TWO, False), ({"a": "resnet8", "b": "cnn"}, False), (MIXED, False)],
    ids=str,
)
def test_a_step_gives_every_parameter_a_gradient(students: dict[str, str], shared_trunk: bool) -> None:
    cohort, objective = make_cohort(students, method=clilr, shared_trunk=shared_trunk)
    assert_every_parameter_learns(cohort, objective)


@pytest.mark.parametrize(("students", "shared_trunk"), [(TWO, True), (CNNS, False)], ids=["trunk", "separate"])
def test_a_compiled_cohort_gives_the_same_losses(students: dict[str, str], shared_trunk: bool) -> None:
    cohort, _ = make_cohort(students, method=clilr, shared_trunk=shared_trunk)
    assert_compiled_losses_are_the_same(cohort)


@pytest.mark.parametrize("size", [1, 6])
def test_one_class_one_image_and_heads_that_agree_give_finite_losses(size: int) -> None:
    cohort, objective = make_cohort(TWO, method=clilr)
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    batch = make_batch(size)
    losses = cohort(batch._replace(labels=torch.zeros_like(batch.labels)))
    assert losses["a/consensus_kl"].item() == pytest.approx(0.0, abs=1e-5)
    objective(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cohort.parameters())


def test_different_networks_cannot_share_a_trunk() -> None:
    with pytest.raises(UserError, match="all students must be the same model"):
        make_cohort(MIXED, method=clilr)
