"""Adversarial feature maps: the least-squares game between each student and its discriminator."""

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

from codistill import StudentOutput, StudentShape, UserError
from codistill.config.schema import make_config
from codistill.methods.afd import Adversaries, afd, fooling_loss, previous_in_ring, telling_apart_loss

EQUAL = {"a": "resnet8", "b": "resnet8"}
UNEQUAL = {"a": "resnet8", "b": "cnn"}
THREE = {"a": "resnet8", "b": "cnn", "c": "vit"}


def literal_generator(fake: torch.Tensor) -> float:
    values = fake.flatten().tolist()
    return sum((1 - value) ** 2 for value in values) / len(values)


def literal_discriminator(real: torch.Tensor, fake: torch.Tensor) -> float:
    values = fake.flatten().tolist()
    return literal_generator(real) + sum(value**2 for value in values) / len(values)


def literal_normalise(x: torch.Tensor) -> torch.Tensor:
    """Batch normalisation of (B, C, H, W) by its own statistics, channel by channel."""
    channels = [(channel - channel.mean()) / (channel.var(unbiased=False) + 1e-5).sqrt() for channel in x.unbind(1)]
    return torch.stack(channels, dim=1)


def literal_judgement(discriminator: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """D's opinion of (B, C, H, W), position by position, for a batch normalisation that has not been trained yet."""
    first, _, _, second = discriminator

    def convolve(maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        height, width = maps.shape[-2:]
        padded = torch.nn.functional.pad(maps, (1, 1, 1, 1))
        cells = [padded[:, :, y : y + 3, x : x + 3].flatten(1) for y in range(height) for x in range(width)]
        return torch.stack([cell @ weight.flatten(1).T for cell in cells], dim=-1).unflatten(-1, (height, width))

    hidden = literal_normalise(convolve(x, first.weight))
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    return 1 / (1 + torch.exp(-(convolve(hidden, second.weight) + second.bias)))


def outputs_for(shapes: dict[str, StudentShape], batch: int = 3) -> dict[str, StudentOutput]:
    return {
        name: StudentOutput(torch.randn(batch, CLASSES), torch.randn(batch, shape.embedding), (maps,))
        for name, shape in shapes.items()
        for maps in [torch.randn(batch, *shape.feature_maps[-1])]
    }


def test_both_sides_of_the_game_have_the_literal_losses() -> None:
    torch.manual_seed(0)
    real, fake = torch.rand(2, 3, 1, 2, 2)
    assert fooling_loss(fake).item() == pytest.approx(literal_generator(fake), abs=1e-6)
    assert telling_apart_loss(real, fake).item() == pytest.approx(literal_discriminator(real, fake), abs=1e-6)


@pytest.mark.parametrize("other", [(6, 4, 4), (8, 2, 2), (8, 4, 4)], ids=["other width", "other grid", "the same"])
def test_a_students_map_is_brought_to_its_peers_width_and_the_smaller_grid(other: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    shapes = {"a": StudentShape(CLASSES, 8, ((8, 4, 4),)), "b": StudentShape(CLASSES, other[0], (other,))}
    teacher, outputs = Adversaries(shapes), outputs_for(shapes)
    losses = teacher(outputs, make_batch(3)).losses
    own, real = (outputs[name].feature_maps[-1] for name in "ab")
    if other[0] != 8:
        own = literal_normalise(
            torch.einsum("bchw,oc->bohw", own, teacher.transfers["a"].channels[0].weight[..., 0, 0])
        )
    if other[1] != 4:
        own = own.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean(dim=(3, 5))
    assert own.shape[1:] == other
    fake = literal_judgement(teacher.discriminators["a"], own)
    assert losses["a_generator"].item() == pytest.approx(literal_generator(fake), abs=1e-5)
    expected = literal_discriminator(literal_judgement(teacher.discriminators["a"], real), fake)
    assert losses["a_discriminator"].item() == pytest.approx(expected, abs=1e-5)


def test_students_stand_in_a_ring_with_one_discriminator_each() -> None:
    assert previous_in_ring(["a", "b", "c"]) == {"a": "c", "b": "a", "c": "b"}
    assert previous_in_ring(["a", "b"]) == {"a": "b", "b": "a"}
    cohort, _ = make_cohort(THREE, method=afd)
    assert set(cohort.teachers["adversarial"].discriminators) == set(THREE)


@pytest.mark.parametrize("kl_from", ["previous", "everybody"])
def test_students_imitate_the_predictions_of_the_one_before_or_of_everybody(kl_from: str) -> None:
    cohort, _ = make_cohort(THREE, method=afd, kl_from=kl_from)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    for name, previous in {"a": "c", "b": "a", "c": "b"}.items():
        speakers = [previous] if kl_from == "previous" else [other for other in THREE if other != name]
        expected = sum(references.kl(logits[name], logits[speaker], 3.0) for speaker in speakers) / len(speakers)
        assert losses[f"{name}/peers_kl"].item() == pytest.approx(expected, abs=1e-5)


def test_an_unknown_kl_from_is_an_error() -> None:
    with pytest.raises(UserError, match="kl_from should be 'previous' or 'everybody'"):
        make_config({"method": {"name": "afd", "kl_from": "next"}})


def test_students_are_trained_against_fixed_discriminators_and_discriminators_on_fixed_maps() -> None:
    cohort, _ = make_cohort(UNEQUAL, method=afd)
    expected = {
        "a/ce": {"students.a"},
        "b/ce": {"students.b"},
        "a/peers_kl": {"students.a"},
        "b/peers_kl": {"students.b"},
        "adversarial/a_generator": {"students.a", "teachers.adversarial.transfers.a"},
        "adversarial/b_generator": {"students.b", "teachers.adversarial.transfers.b"},
        "adversarial/a_discriminator": {"teachers.adversarial.discriminators.a"},
        "adversarial/b_discriminator": {"teachers.adversarial.discriminators.b"},
    }
    assert_each_loss_trains(cohort, expected)


def test_steps_make_the_discriminator_better_and_one_of_the_student_fools_it_more() -> None:
    cohort, objective = make_cohort({"a": "cnn", "b": "cnn"}, method=afd, adversarial=1.0)
    optimizer = torch.optim.SGD(cohort.teachers.parameters(), lr=0.05)
    batch = make_batch(16)
    before = cohort(batch)["adversarial/a_discriminator"].item()
    for _ in range(5):
        optimizer.zero_grad()
        objective(cohort(batch)).backward()
        optimizer.step()
    after = cohort(batch)
    assert after["adversarial/a_discriminator"].item() < before
    optimizer = torch.optim.SGD(cohort.students["a"].parameters(), lr=0.05)
    optimizer.zero_grad()
    after["adversarial/a_generator"].backward()
    optimizer.step()
    assert cohort(batch)["adversarial/a_generator"].item() < after["adversarial/a_generator"].item()


@pytest.mark.parametrize("students", [EQUAL, UNEQUAL, THREE], ids=["equal", "unequal", "three"])
def test_every_parameter_learns_in_every_step(students: dict[str, str]) -> None:
    cohort, objective = make_cohort(students, method=afd)
    assert_every_parameter_learns(cohort, objective)


def test_a_compiled_cohort_gives_the_same_losses() -> None:
    cohort, _ = make_cohort({"b": "cnn", "c": "vit"}, method=afd)
    assert_compiled_losses_are_the_same(cohort)


def test_one_image_and_identical_students_give_finite_losses() -> None:
    cohort, objective = make_cohort(EQUAL, method=afd)
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    losses = cohort(make_batch(1))
    objective(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in cohort.parameters())  # type: ignore[union-attr]
