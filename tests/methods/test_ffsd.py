"""Followers, their fusion and the leader, against loops over positions."""

import math
from copy import deepcopy

import pytest
import references
import torch
from cohorts import (
    assert_compiled_losses_are_the_same,
    assert_each_loss_trains,
    gradients,
    make_batch,
    make_cohort,
    without_gradient,
)
from torch import Tensor

from codistill import UserError
from codistill.core.losses.attention import attention_distance, attention_rows
from codistill.core.objective import Ramp
from codistill.methods.ffsd import attention_shift, ffsd, shifted_map
from codistill.methods.ffsd_decoders import Decoder, SelfDistillation, map_distance

TWO = {"a": "resnet8", "b": "resnet8"}
MIXED = {"a": "resnet8", "b": "cnn", "c": "vit"}
COHORTS = [TWO, {"a": "resnet8", "b": "cnn"}, MIXED]


def literal_attention(feature_map: Tensor) -> list[list[float]]:
    """Mean over channels of the squares, at each position: image -> position -> value."""
    rows = []
    for image in feature_map.tolist():
        height, width = len(image[0]), len(image[0][0])
        rows.append(
            [sum(channel[r][s] ** 2 for channel in image) / len(image) for r in range(height) for s in range(width)]
        )
    return rows


def unit(row: list[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in row))
    return [value / norm for value in row]


def literal_units(feature_map: Tensor) -> list[list[float]]:
    return [unit(image.flatten().tolist()) for image in feature_map]


def mean_square(a: list[list[float]], b: list[list[float]]) -> float:
    squares = [(x - y) ** 2 for u, v in zip(a, b, strict=True) for x, y in zip(u, v, strict=True)]
    return sum(squares) / len(squares)


def literal_distance(learner: Tensor, target: Tensor) -> float:
    return mean_square([unit(r) for r in literal_attention(learner)], [unit(r) for r in literal_attention(target)])


def literal_wanted(row: list[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in row))
    threshold = sorted(unit(row))[max(1, len(row) // 3) - 1]
    return [u if u < threshold else norm - u if u > threshold else norm / 2 for u in unit(row)]


def literal_shift(learner: Tensor, predecessor: Tensor) -> float:
    wanted = [literal_wanted(row) for row in literal_attention(predecessor)]
    return mean_square([unit(r) for r in literal_attention(learner)], wanted)


def literal_shifted_map(y: Tensor) -> Tensor:
    shifted = y.clone()
    _, channels, _, width = y.shape
    for image, row in enumerate(literal_attention(y)):
        norm = math.sqrt(sum(value * value for value in row))
        for position, (wanted, is_now) in enumerate(zip(literal_wanted(row), unit(row), strict=True)):
            shifted[image, :, position // width, position % width] += (wanted - is_now) * norm / channels
    return shifted


def literal_up(x: Tensor, kernel: Tensor, factor: int) -> Tensor:
    """A transposed convolution, 3 x 3: every pixel of a channel leaves its kernel on the larger grid."""
    images, inputs, height, width = x.shape
    outputs = kernel.shape[1]
    padded = torch.zeros(images, outputs, factor * height + 3, factor * width + 3)
    for row in range(height):
        for column in range(width):
            for channel in range(inputs):
                stamp = x[:, channel, row, column].view(-1, 1, 1, 1) * kernel[channel][None]
                padded[:, :, factor * row : factor * row + 3, factor * column : factor * column + 3] += stamp
    return padded[:, :, 1 : factor * height + 1, 1 : factor * width + 1]


@pytest.mark.parametrize("channels", [3, 7])
def test_attention_is_compared_as_in_the_literal_formula_whatever_the_channels(channels: int) -> None:
    torch.manual_seed(0)
    learner, target = torch.randn(2, 3, 4, 3), torch.randn(2, channels, 4, 3)
    assert attention_distance(learner, target).item() == pytest.approx(literal_distance(learner, target), abs=1e-6)


def test_maps_of_different_grids_are_compared_on_the_smaller_one() -> None:
    large, small = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    for a, b, which in ((large, small, 0), (small, large, 1)):
        rows = attention_rows(a, b)
        assert rows[0].shape == rows[1].shape == (2, 4)
        torch.testing.assert_close(rows[which][1, 2], large[1, :, 2:, :2].pow(2).mean())


def test_attention_does_not_depend_on_how_strong_a_map_is() -> None:
    a, b = torch.randn(2, 2, 3, 4, 4)
    torch.testing.assert_close(attention_distance(a, b), attention_distance(7 * a, b / 3))
    assert attention_distance(a, 2 * a).item() < 1e-12


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_the_shift_is_the_literal_one(size: int) -> None:
    torch.manual_seed(0)
    learner, predecessor = torch.randn(3, 4, size, size), torch.randn(3, 6, size, size)
    found = attention_shift(learner, predecessor).item()
    assert found == pytest.approx(literal_shift(learner, predecessor), abs=1e-5)


def test_the_shift_draws_a_follower_away_from_where_its_predecessor_looks() -> None:
    predecessor = 0.4 * torch.tensor([3.0, 2.0, 1.0, 0.5]).view(1, 1, 2, 2)
    active = predecessor.flatten()
    learner = torch.ones(1, 1, 2, 2, requires_grad=True)
    attention_shift(learner, predecessor).backward()
    pull = -learner.grad.flatten()  # type: ignore[union-attr]
    assert pull[active.argmax()] < pull[1] < pull[2]


@pytest.mark.parametrize("model", ["cnn", "resnet8"])
def test_every_loss_is_the_formulas(model: str) -> None:
    students = {"a": "resnet8", "b": model, "c": "resnet8", "d": "resnet8"}
    followers = ["a", "c", "d"]
    cohort, objective = make_cohort(students, method=ffsd, leader="b", temperature=2.0)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    maps = {name: student(batch.images).feature_maps[-1] for name, student in cohort.students.items()}
    fusion = cohort.teachers["fusion"]
    joined = torch.cat([maps[name] for name in followers], dim=1)
    fused = fusion.fusion.mix(joined)
    own = {name: student(batch.images).feature_maps for name, student in cohort.students.items()}
    drawn_to = {"c": literal_shifted_map(maps["a"]), "d": literal_shifted_map(maps["c"]), "b": fused}
    mean = sum(logits[name] for name in followers) / 3
    expected = {f"{n}/ce": references.cross_entropy(logits[n], batch.labels.tolist()) for n in logits}
    for name in followers:
        kls = [references.kl(logits[name], logits[other], 2.0) for other in followers if other != name]
        expected[f"{name}/peers_kl"] = sum(kls) / 2
    expected |= {
        "diversity/c": literal_shift(maps["c"], maps["a"]),
        "diversity/d": literal_shift(maps["d"], maps["c"]),
        "b/fusion_kl": references.kl(logits["b"], logits["fusion"], 2.0),
        "fusion/ensemble_kl": references.kl(logits["fusion"], mean, 2.0),
        "fusion/leader_attention": literal_distance(maps["b"], fused),
        "fusion/leader_expansion": literal_distance(fusion.expand(maps["b"]), joined),
    }
    for name, decoder in cohort.teachers["own"].decoders.items():
        *early, last = own[name]
        taught = zip(early, decoder(drawn_to[name]), strict=True)
        expected[f"own/{name}_stages"] = sum(literal_distance(*pair) for pair in taught)
        found = list(zip(decoder(last), early, strict=True))
        whole = sum(mean_square(literal_units(x), literal_units(y)) for x, y in found)
        expected[f"own/{name}_decoder"] = whole + sum(literal_distance(*pair) for pair in found)
    assert set(losses) == set(expected)
    assert ("own/b_stages" in losses) == (model == "resnet8")
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=1e-5, rel=1e-5), name
    ramped = {
        "diversity/c": 1e-5,
        "diversity/d": 1e-5,
        "fusion/leader_attention": 10.0,
        "fusion/leader_expansion": 10.0,
        "own/b_decoder": 1000.0,
        "own/b_stages": 10.0,
        "own/c_decoder": 1000.0,
        "own/c_stages": 1e-5,
        "own/d_decoder": 1000.0,
        "own/d_stages": 1e-5,
    }
    weights = {name: Ramp(ramped[name], over=0.017) if name in ramped else 1.0 for name in sorted(losses)}
    assert objective.table(losses) == weights


def test_each_loss_trains_these_modules_and_no_others() -> None:
    cohort, _ = make_cohort(dict.fromkeys("abc", "resnet8"), method=ffsd)
    expected = {
        **{f"{name}/ce": {f"students.{name}"} for name in "abc"},
        "a/peers_kl": {"students.a"},
        "b/peers_kl": {"students.b"},
        "diversity/b": {"students.b"},
        "fusion/ce": {"teachers.fusion.fusion"},
        "fusion/ensemble_kl": {"teachers.fusion.fusion"},
        "c/fusion_kl": {"students.c"},
        "fusion/leader_attention": {"students.c"},
        "fusion/leader_expansion": {"students.c", "teachers.fusion.expand"},
        **{f"own/{name}_stages": {f"students.{name}"} for name in "bc"},
        **{f"own/{name}_decoder": {"teachers.own.decoders"} for name in "bc"},
    }
    assert_each_loss_trains(cohort, expected)


@pytest.mark.parametrize("students", COHORTS, ids=str)
@pytest.mark.parametrize("leader", [None, "a"])
def test_cohorts_of_any_kind_train_a_step(students: dict[str, str], leader: str | None) -> None:
    cohort, objective = make_cohort(students, method=ffsd, leader=leader)
    losses = cohort(make_batch())
    objective.table(losses)  # no loss without a weight, no weight without a loss
    objective(losses).backward()
    assert without_gradient(cohort) == []
    assert f"{leader or list(students)[-1]}/fusion_kl" in losses


def test_with_one_follower_there_is_nobody_to_learn_with() -> None:
    cohort, _ = make_cohort(TWO, method=ffsd)
    names = {"a/ce", "b/ce", "b/fusion_kl", "fusion/ce", "fusion/ensemble_kl", "own/b_stages", "own/b_decoder"}
    assert set(cohort(make_batch())) == {*names, "fusion/leader_attention", "fusion/leader_expansion"}


def test_a_map_is_shifted_as_in_the_literal_formula() -> None:
    torch.manual_seed(0)
    y = torch.randn(2, 3, 4, 3)
    torch.testing.assert_close(shifted_map(y), literal_shifted_map(y))


def test_whole_maps_are_compared_by_their_direction_alone() -> None:
    a, b = torch.randn(2, 2, 3, 4, 4)
    assert map_distance(a, b).item() == pytest.approx(mean_square(literal_units(a), literal_units(b)), abs=1e-7)
    assert map_distance(a, 3 * a).item() < 1e-12


@pytest.mark.parametrize("grid", [(4, 6), (2, 3), (6, 9), (10, 15)])
def test_a_decoder_goes_back_by_transposed_convolutions_to_the_grid_of_each_stage(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    decoder = Decoder([(3, *grid), (5, 2, 3)]).eval()
    deepest = torch.randn(2, 5, 2, 3)
    (up,) = decoder.ups
    literal = literal_up(deepest, up.convolution.weight, grid[0] // 2)
    expected = (literal / math.sqrt(1 + up.norm.eps)).relu()  # running statistics are those of a new layer
    (decoded,) = decoder(deepest)
    torch.testing.assert_close(decoded, expected)


def test_a_grid_that_does_not_divide_the_earlier_one_is_averaged_down_to_it() -> None:
    for grid in ((5, 7), (3, 9)):
        decoder, deepest = Decoder([(3, *grid), (6, 2, 2)]), torch.randn(2, 6, 2, 2)
        enlarged = decoder.ups[0].convolution(deepest)
        assert all(large >= wanted for large, wanted in zip(enlarged.shape[2:], grid, strict=True))
        (decoded,) = decoder(deepest)
        assert decoded.shape == (2, 3, *grid)


def test_a_decoder_teaches_as_it_is_in_evaluation_and_before_it_sees_the_batch() -> None:
    cohort, _ = make_cohort(TWO, method=ffsd)
    decoder = cohort.teachers["own"].decoders["b"]
    with torch.no_grad():
        for up in decoder.ups:
            up.norm.running_mean.normal_()
            up.norm.running_var.uniform_(0.5, 2.0)
    as_it_was = deepcopy(decoder).eval()
    batch = make_batch(8)
    fused: list[Tensor] = []
    cohort.teachers["fusion"].fusion.mix.register_forward_hook(lambda _, __, output: fused.append(output))
    maps: list[tuple[Tensor, ...]] = []
    cohort.students["b"].register_forward_hook(lambda _, __, output: maps.append(output.feature_maps))
    loss = cohort(batch)["own/b_stages"]
    expected = sum(attention_distance(*pair) for pair in zip(maps[0], as_it_was(fused[0]), strict=False))
    torch.testing.assert_close(loss, expected)
    assert all(up.norm.num_batches_tracked == 1 for up in decoder.ups)  # by its own lesson alone
    loss.backward()
    assert all(parameter.grad is None for parameter in decoder.parameters())


def test_in_half_precision_every_decoder_has_a_gradient() -> None:
    cohort, objective = make_cohort(TWO, method=ffsd)
    with torch.autocast("cpu", torch.bfloat16):
        objective(cohort(make_batch(8))).backward()
    assert all(parameter.grad.any() for parameter in cohort.teachers["own"].decoders.parameters())


def test_without_a_weight_for_decoders_there_are_none() -> None:
    cohort, _ = make_cohort(TWO, method=ffsd, decoders=0.0)
    assert "own" not in cohort.teachers


def test_a_decoder_learns_what_its_students_shallow_maps_look_like() -> None:
    cohort, _ = make_cohort(TWO, method=ffsd)
    own, batch = cohort.teachers["own"], make_batch(16)
    assert isinstance(own, SelfDistillation)
    optimizer = torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9)
    seen = []
    for _ in range(40):
        loss = cohort(batch)["own/b_decoder"]
        seen.append(loss.item())
        optimizer.zero_grad()
        (1000.0 * loss).backward()
        optimizer.step()
    assert seen[-1] < 0.5 * seen[0]


def test_only_students_with_maps_of_the_shape_that_they_are_drawn_to_distil_themselves() -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "cnn", "c": "resnet8"}, method=ffsd, width=24)
    assert not any(name.startswith("own/") for name in cohort(make_batch()))


def test_a_leader_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"Unknown leader 'd'\. Choices: a, b"):
        make_cohort(TWO, method=ffsd, leader="d")


def test_a_compiled_cohort_gives_the_same_losses() -> None:
    cohort, _ = make_cohort(MIXED, method=ffsd)
    assert_compiled_losses_are_the_same(cohort)


def test_one_class_one_image_and_identical_students_have_finite_losses_and_gradients() -> None:
    cohort, objective = make_cohort(dict.fromkeys("abc", "resnet8"), method=ffsd)
    for name in "bc":
        cohort.students[name].load_state_dict(cohort.students["a"].state_dict())
    for size in (1, 4):
        cohort.zero_grad()
        batch = make_batch(size)._replace(labels=torch.zeros(size, dtype=torch.int64))
        objective(cohort(batch)).backward()
        assert all(gradient.isfinite().all() for gradient in gradients(cohort).values())


def test_maps_that_are_nowhere_active_have_finite_losses_and_gradients() -> None:
    silent = torch.zeros(2, 3, 4, 4, requires_grad=True)
    for loss in (attention_distance(silent, torch.zeros(2, 3, 4, 4)), attention_shift(silent, torch.zeros(2, 3, 4, 4))):
        assert loss.isfinite()
        (gradient,) = torch.autograd.grad(loss, silent)
        assert gradient.isfinite().all()
