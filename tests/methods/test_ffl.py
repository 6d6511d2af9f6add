"""Feature fusion learning, against convolutions written as loops."""

import pytest
import references
import torch
from cohorts import (
    CLASSES,
    SIZE,
    assert_compiled_losses_are_the_same,
    assert_one_class_of_identical_students_is_finite,
    gradients,
    make_batch,
    make_cohort,
    without_gradient,
)
from torch import Tensor, nn

from codistill import Batch, StudentOutput, UserError
from codistill.core.objective import Ramp
from codistill.methods.ffl import FusionTeacher, ffl
from codistill.methods.fusion import FeatureFusion, join_maps, separable

TWO = {"a": "resnet8", "b": "resnet8"}
MIXED = {"a": "resnet8", "b": "cnn", "c": "vit"}
COHORTS = [TWO, {"a": "resnet8", "b": "cnn"}, MIXED]


def batch_norm(x: float, norm: nn.BatchNorm2d, channel: int) -> float:
    mean, var = norm.running_mean[channel].item(), norm.running_var[channel].item()  # type: ignore[index]
    return (x - mean) / (var + norm.eps) ** 0.5 * norm.weight[channel].item() + norm.bias[channel].item()


def literal_separable(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Depthwise 3x3 with zeros around, BN, ReLU, pointwise, BN, ReLU; number by number, in evaluation."""
    depthwise, norm1, _, pointwise, norm2, _ = layers
    batch, channels, height, width = x.shape
    mixed = torch.zeros_like(x)
    out = torch.zeros(batch, pointwise.out_channels, height, width)
    for b in range(batch):
        for r in range(height):
            for s in range(width):
                for c in range(channels):
                    total = 0.0
                    for i in range(3):
                        for j in range(3):
                            if 0 <= r + i - 1 < height and 0 <= s + j - 1 < width:
                                total += float(depthwise.weight[c, 0, i, j] * x[b, c, r + i - 1, s + j - 1])
                    mixed[b, c, r, s] = max(0.0, batch_norm(total, norm1, c))
                for o in range(pointwise.out_channels):
                    total = sum(float(pointwise.weight[o, c, 0, 0] * mixed[b, c, r, s]) for c in range(channels))
                    out[b, o, r, s] = max(0.0, batch_norm(total, norm2, o))
    return out


def without_special_values(module: nn.Module) -> nn.Module:
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if "var" in name else value.normal_(0.2, 0.5)
    return module.eval()


def test_the_two_convolutions_are_the_literal_ones() -> None:
    torch.manual_seed(0)
    layers = without_special_values(separable(4, 3))
    x = torch.randn(2, 4, 3, 2)
    with torch.no_grad():
        torch.testing.assert_close(layers(x), literal_separable(layers, x), atol=1e-5, rtol=0)


def test_maps_of_other_grids_are_averaged_down_to_the_smallest() -> None:
    large, small = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    joined = join_maps([large, small], (2, 2))
    assert joined.shape == (2, 8, 2, 2)
    torch.testing.assert_close(joined[1, 2, 0, 1], large[1, 2, :2, 2:].mean())
    torch.testing.assert_close(joined[:, 3:], small)


def test_the_modules_answer_is_its_classifier_on_the_mean_of_the_fused_map() -> None:
    torch.manual_seed(0)
    fusion = FeatureFusion([(4, 2, 2), (3, 3, 3)], CLASSES)
    assert (fusion.width, fusion.grid, fusion.channels) == (3, (2, 2), 7)
    without_special_values(fusion)
    joined = torch.randn(2, 7, 2, 2)
    with torch.no_grad():
        answer = fusion(joined)
        fused = literal_separable(fusion.mix, joined)
        expected = torch.stack([fusion.classifier(fused[b].flatten(1).mean(dim=1)) for b in range(2)])
    torch.testing.assert_close(answer.logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(answer.feature_maps[0], fused, atol=1e-5, rtol=0)


def test_the_fused_maps_width_can_be_chosen_and_must_be_positive() -> None:
    assert FeatureFusion([(4, 2, 2)] * 2, CLASSES, width=6)(torch.randn(2, 8, 2, 2)).embedding.shape == (2, 6)
    with pytest.raises(UserError, match="at least 1, got 0"):
        FeatureFusion([(4, 2, 2)] * 2, CLASSES, width=0)


def test_every_loss_is_the_formulas() -> None:
    cohort, objective = make_cohort(MIXED, method=ffl, temperature=3.0, ramp=0.25)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    mean = sum(logits[name] for name in MIXED) / 3
    expected = {f"{name}/fusion_kl": references.kl(logits[name], logits["fusion"], 3.0) for name in MIXED}
    expected["fusion/ensemble_kl"] = references.kl(logits["fusion"], mean, 3.0)
    for name in [*MIXED, "fusion"]:
        expected[f"{name}/ce"] = references.cross_entropy(logits[name], batch.labels.tolist())
    assert set(losses) == set(expected)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-5), name
    assert objective.table(losses) == {n: 1.0 if n.endswith("/ce") else Ramp(1.0, over=0.25) for n in sorted(losses)}
    total = sum(v * (1.0 if n.endswith("/ce") else references.ramp(1.0, 0.25, 0.1)) for n, v in expected.items())
    assert objective(losses, progress=0.1).item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("train_students", [True, False])
def test_each_loss_trains_these_modules_and_no_others(train_students: bool) -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "cnn"}, method=ffl, train_students=train_students)
    through = {"students.a", "students.b", "teachers.fusion"} if train_students else {"teachers.fusion"}
    expected = {
        "a/ce": {"students.a"},
        "b/ce": {"students.b"},
        "a/fusion_kl": {"students.a"},
        "b/fusion_kl": {"students.b"},
        "fusion/ce": through,
        "fusion/ensemble_kl": through,
    }
    losses = cohort(make_batch())
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {".".join(key.split(".")[:2]) for key, gradient in gradients(cohort).items() if gradient.any()}
        assert reached == expected[name], name


@pytest.mark.parametrize("students", COHORTS, ids=str)
def test_cohorts_of_any_kind_train_a_step(students: dict[str, str]) -> None:
    cohort, objective = make_cohort(students, method=ffl)
    losses = cohort(make_batch())
    objective(losses).backward()
    assert without_gradient(cohort) == []


def test_branches_of_one_network_train_a_step() -> None:
    cohort, objective = make_cohort(dict.fromkeys("abc", "resnet8"), method=ffl, shared_trunk=True)
    objective(cohort(make_batch())).backward()
    assert without_gradient(cohort) == []
    assert cohort.students["a"].backbone.conv is cohort.students["c"].backbone.conv


def test_a_compiled_cohort_gives_the_same_losses() -> None:
    cohort, _ = make_cohort(MIXED, method=ffl)
    assert_compiled_losses_are_the_same(cohort)


def test_one_class_one_image_and_identical_students_have_finite_losses() -> None:
    cohort, objective = make_cohort(TWO, method=ffl)
    assert_one_class_of_identical_students_is_finite(cohort, objective)


def test_the_fusion_is_predicted_from_what_the_students_say() -> None:
    cohort, _ = make_cohort(TWO, method=ffl)
    logits = cohort.eval().predict(torch.randn(3, 3, SIZE, SIZE))
    assert list(logits) == ["a", "b", "fusion"]
    assert logits["fusion"].shape == (3, CLASSES)


def test_the_teachers_own_answer_is_what_it_teaches_everybody() -> None:
    cohort, _ = make_cohort(TWO, method=ffl)
    teacher = cohort.teachers["fusion"].eval()
    assert isinstance(teacher, FusionTeacher)
    outputs = {
        name: StudentOutput(torch.randn(2, CLASSES), torch.randn(2, 64), (torch.randn(2, 64, 4, 4),)) for name in TWO
    }
    taught = teacher(outputs, Batch(torch.empty(0), torch.tensor([0, 1])))
    for name in TWO:
        torch.testing.assert_close(taught.targets[name].logits[0], teacher.predict(outputs))
