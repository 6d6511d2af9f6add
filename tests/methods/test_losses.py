"""Which losses each method has, and that their values are the formula's."""

import pytest
import references
import torch
from cohorts import make_batch, make_cohort

TWO = {"a": "resnet8", "b": "resnet8"}
THREE = {"a": "resnet8", "b": "cnn", "c": "vit"}


def test_students_alone_have_no_losses_between_them() -> None:
    cohort, _ = make_cohort(TWO)
    assert set(cohort(make_batch())) == {"a/ce", "b/ce"}


def test_mutual_learning_is_the_mean_kl_to_the_others() -> None:
    cohort, _ = make_cohort(THREE, method="dml", temperature=2.0)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    for name in THREE:
        others = [references.kl(logits[name], logits[other], 2.0) for other in THREE if other != name]
        assert losses[f"{name}/peers_kl"].item() == pytest.approx(sum(others) / 2, abs=1e-5)
        expected = references.cross_entropy(logits[name], batch.labels.tolist())
        assert losses[f"{name}/ce"].item() == pytest.approx(expected, abs=1e-5)


def test_collaboration_can_be_held_on_all_four_turns() -> None:
    cohort, objective = make_cohort(TWO, method="collaborative", teach_on="turns")
    cohort.eval()
    batch = make_batch()
    turned = torch.cat([torch.rot90(batch.images, turn, (-2, -1)) for turn in range(4)])
    losses, logits = cohort(batch), cohort.predict(turned)
    objective.table(losses)
    expected = references.cross_entropy(logits["cpm"], batch.labels.repeat(4).tolist())
    assert losses["cpm/ce"].item() == pytest.approx(expected, abs=1e-5)
    assert losses["cpm/b_kl"].item() == pytest.approx(references.kl(logits["cpm"], logits["b"], 3.0), abs=1e-5)
    assert losses["a/ce"].item() == pytest.approx(
        references.cross_entropy(logits["a"][:6], batch.labels.tolist()), abs=1e-5
    )


def test_two_collaborating_students_have_six_links_each_with_a_name_and_the_formulas_value() -> None:
    cohort, objective = make_cohort(TWO, method="collaborative", temperature=3.0, reliability=1.0)
    cohort.eval()
    trust = cohort.teachers["reliability"]
    trust.running_ce.copy_(torch.tensor([0.2, 0.9]))  # type: ignore[union-attr,operator]
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    kl = {(i, j): references.kl(logits[i], logits[j], 3.0) for i in logits for j in logits}
    poor = 2.718281828 ** (0.2 - 0.9)  # b's reliability
    expected = {
        "a/cpm_kl": kl["a", "cpm"],
        "b/cpm_kl": kl["b", "cpm"],
        "a/peers_kl": poor * kl["a", "b"],
        "b/peers_kl": kl["b", "a"],
        "cpm/a_kl": kl["cpm", "a"],
        "cpm/b_kl": poor * kl["cpm", "b"],
        "cpm/ce": references.cross_entropy(logits["cpm"], batch.labels.tolist()),
    }
    assert set(losses) == {"a/ce", "b/ce", *expected}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-5), name
    weights = objective.table(losses)
    assert all(weight.weight == 1.0 for name, weight in weights.items() if name.endswith("_kl"))  # type: ignore[union-attr]
