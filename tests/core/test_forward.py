"""How students see: fractions of a batch, views of lessons, augmentations of their own, and a shared trunk."""

from collections.abc import Mapping

import pytest
import torch
from cohorts import gradients, make_batch, make_cohort

from codistill import Lesson, Method, StudentShape, UserError
from codistill.core.forward import scale_gradient
from codistill.core.losses import KL
from codistill.core.views import QUARTER_TURNS
from codistill.methods.peer_teachers import Listen, everybody_else

TWO = {"a": "resnet8", "b": "resnet8"}
Shapes = Mapping[str, StudentShape]


def sharing(shapes: Shapes, *, trunk_gradient: float = 1.0) -> Method:
    return Method({}, {"*/ce": 1.0}, shared_trunk=True, trunk_gradient=trunk_gradient)


def own_augmentations(shapes: Shapes) -> Method:
    return Method({}, {"*/ce": 1.0}, own_augmentations=True)


def turned(shapes: Shapes) -> Method:
    lesson = Lesson(Listen(everybody_else(list(shapes))), {"kl": KL(2.0)}, views=QUARTER_TURNS)
    return Method({"peers": lesson}, {"*": 1.0})


def test_students_that_share_a_trunk_answer_as_each_would_alone() -> None:
    cohort, _ = make_cohort(TWO, ["rotation", "supcon"], sharing)
    cohort.eval()
    batch = make_batch()
    losses = cohort(batch)
    logits = {name: student(batch.images).logits for name, student in cohort.students.items()}
    for name in TWO:
        torch.testing.assert_close(losses[f"{name}/ce"], torch.nn.functional.cross_entropy(logits[name], batch.labels))


def test_a_shared_trunk_is_trained_by_all_and_counted_once() -> None:
    cohort, objective = make_cohort(TWO, method=sharing)
    losses = cohort(make_batch())
    trunk = cohort.students["b"].backbone.conv.weight
    assert trunk is cohort.students["a"].backbone.conv.weight
    both = [torch.autograd.grad(losses[f"{name}/ce"], trunk, retain_graph=True)[0] for name in TWO]
    objective(losses).backward()
    torch.testing.assert_close(trunk.grad, sum(both))
    assert cohort.parameter_counts()[1] == 0
    assert len(cohort.parameter_groups()["b"]) < len(cohort.parameter_groups()["a"])


def test_the_gradient_at_the_split_is_rescaled_and_nothing_else() -> None:
    found = []
    for factor in (1.0, 0.5):
        cohort, objective = make_cohort(TWO, method=sharing, trunk_gradient=factor)
        objective(cohort(make_batch())).backward()
        found.append(gradients(cohort))
    for name, full in found[0].items():
        in_branch = "stages.2" in name or "classifier" in name
        torch.testing.assert_close(found[1][name], full if in_branch else 0.5 * full, atol=1e-6, rtol=1e-4)


def test_scaling_a_gradient_leaves_the_value_alone() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    scaled = scale_gradient(x, 0.25)
    scaled.backward()
    assert scaled.item() == 2.0
    assert x.grad == 0.25


@pytest.mark.parametrize("students", [{"a": "resnet8", "b": "resnet14"}, {"a": "resnet8", "b": "vit"}])
def test_only_networks_of_one_kind_share_a_trunk(students: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"all students must be the same model|networks of one depth"):
        make_cohort(students, method=sharing)


def test_students_with_augmentations_of_their_own_see_different_images() -> None:
    cohort, _ = make_cohort(TWO, method=own_augmentations)
    assert cohort.augmentations == 2
    cohort.eval()
    batch = make_batch()
    for name, images in (("a", batch.images), ("b", batch.extra[0])):
        expected = torch.nn.functional.cross_entropy(cohort.students[name](images).logits, batch.labels)
        torch.testing.assert_close(cohort(batch)[f"{name}/ce"], expected)


def test_a_lesson_on_all_turns_compares_what_was_said_about_every_turn() -> None:
    cohort, _ = make_cohort(TWO, method=turned)
    cohort.eval()
    batch = make_batch()
    images = torch.cat([torch.rot90(batch.images, turn, (-2, -1)) for turn in range(4)])
    logits = cohort.predict(images)
    expected = KL(2.0)(
        cohort.students["a"](images),
        Listen({"a": ["b"]})({name: student(images) for name, student in cohort.students.items()}, batch).targets["a"],
    )
    assert logits["a"].shape[0] == 24
    torch.testing.assert_close(cohort(batch)["a/peers_kl"], expected)


def test_a_task_on_a_fraction_of_the_batch_sees_its_first_rows_and_costs_no_more_passes() -> None:
    whole, _ = make_cohort(TWO, ["rotation", None])
    fraction, _ = make_cohort(TWO, ["rotation", None], fractions={"a": 0.5})
    fraction.load_state_dict(whole.state_dict())
    looks: list[int] = []
    fraction.students["a"].register_forward_hook(lambda _, images, __: looks.append(len(images[0])))
    six = make_batch(6)
    three = six._replace(images=six.images[:3], labels=six.labels[:3])
    torch.testing.assert_close(fraction.eval()(six)["a/rotation"], whole.eval()(three)["a/rotation"])
    assert looks == [6 + 3 * 3]
