"""The training step."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from io import BytesIO

import pytest
import torch
from cohorts import (
    MIXED_SETTINGS,
    assert_compiled_losses_are_the_same,
    gradients,
    make_batch,
    make_cohort,
    without_gradient,
)
from torch import Tensor

from codistill import Batch, Cohort, StudentOutput, StudentShape, Task, UserError
from codistill.methods import METHODS
from codistill.tasks import TASKS
from codistill.training.build import loss_names
from codistill.training.runtime import Runtime

TWO = {"a": "resnet8", "b": "resnet8"}
MIXED = {"res": "resnet14", "plain": "cnn", "vit": "vit"}


# Each task, and none, beside the next one in the table: all pairs would be too many.
PAIRS = list(zip([None, *TASKS], [*TASKS, None], strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_three_architectures_train_a_step_under_every_method_and_task(
    method: str, pair: tuple[str | None, str | None]
) -> None:
    cohort, objective = make_cohort(MIXED, [*pair, pair[0]], method, **MIXED_SETTINGS.get(method, {}))
    losses = cohort(make_batch())
    objective.table(losses)  # no loss without a weight, no weight without a loss
    objective(losses).backward()
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    assert without_gradient(cohort) == []


def copied(cohort: Cohort) -> Cohort:
    return deepcopy(cohort)


def saved_and_loaded(cohort: Cohort) -> Cohort:
    file = BytesIO()
    torch.save(cohort, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("way", [copied, saved_and_loaded])
@pytest.mark.parametrize("method", METHODS)
def test_a_cohort_can_be_copied_and_saved_and_the_other_one_trains_by_itself(
    method: str, way: Callable[[Cohort], Cohort]
) -> None:
    cohort, objective = make_cohort(dict.fromkeys("abc", "resnet8"), ["rotation", None, None], method)
    batch = make_batch()
    objective(cohort(batch)).backward()
    cohort.zero_grad()
    cohort.after_step()
    other = way(cohort)
    objective(other(batch)).backward()
    assert without_gradient(other) == []
    assert not any(gradient.any() for gradient in gradients(cohort).values())
    objective(cohort(batch)).backward()
    torch.testing.assert_close(gradients(other), gradients(cohort), atol=0, rtol=0)


def test_one_backward_equals_one_per_student() -> None:
    cohort, objective = make_cohort(MIXED, ["rotation", "supcon", "contrastive"], "dml")
    cohort.students["vit"].eval()  # its dropout would differ between the two passes
    batch = make_batch()
    objective(cohort(batch)).backward()
    together = gradients(cohort)
    cohort.zero_grad()
    for student in MIXED:
        losses = cohort(batch)
        own = {name: loss * float(name.startswith(f"{student}/")) for name, loss in losses.items()}
        objective(own).backward()
    torch.testing.assert_close(gradients(cohort), together, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("task", ["simclr", "contrastive", "reconstruction"])
def test_a_task_on_a_part_of_a_small_batch_still_has_two_images_to_compare(task: str) -> None:
    cohort, _ = make_cohort(TWO, [task, None], fractions={"a": 0.25}, view_statistics="clean_only")
    assert cohort(make_batch(4))[f"a/{task}"].item() > 0


class Ones(Task):
    """A task whose loss has as many numbers as it is told."""

    def __init__(self, shape: StudentShape, *, shape_of_loss: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.shape = shape_of_loss

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        return seen["clean"].logits.sum() * torch.ones(self.shape)


@pytest.mark.parametrize("name", ["ce", "peers_kl"])
def test_a_task_that_is_called_like_another_loss_of_its_student_is_refused(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, name, Ones)
        cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, [name, None], "dml")
    with pytest.raises(UserError, match=f"Two losses are called 'a/{name}'"):
        cohort(make_batch())


def test_images_without_a_label_each_are_refused() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"})
    images, labels, *_ = make_batch()
    with pytest.raises(ValueError, match=f"got {len(labels) - 1} for {len(images)}"):
        cohort(Batch(images, labels[1:]))


@pytest.mark.parametrize(("shape", "told"), [((2,), r"of shape \(2,\)"), ((1,), r"of shape \(1,\)")])
def test_a_loss_of_several_numbers_is_named_before_training(
    shape: tuple[int, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "ones", partial(Ones, shape_of_loss=shape))
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, ["ones", None])
    with pytest.raises(UserError, match=f"Loss 'a/ones' should be a tensor that holds one number, is a tensor {told}"):
        loss_names(cohort, (16, 16), Runtime(torch.device("cpu")))


def test_each_view_is_made_once_and_each_student_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from codistill.core import cohort as module

    cohort, _ = make_cohort(MIXED, ["rotation", "contrastive", None])
    made: list[str] = []

    def counting(view: str, make):  # type: ignore[no-untyped-def]
        return lambda *images_and_draws: made.append(view) or make(*images_and_draws)

    monkeypatch.setattr(module, "VIEWS", {view: counting(view, make) for view, make in module.VIEWS.items()})
    looks: list[tuple[str, int]] = []
    for name, student in cohort.students.items():
        student.register_forward_hook(lambda _, images, __, name=name: looks.append((name, len(images[0]))))
    cohort(make_batch(6))
    assert sorted(made) == ["clean", "rot180", "rot270", "rot90"]
    assert looks == [("res", 24), ("plain", 24), ("vit", 6)]


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_a_tasks_fraction_may_change_after_its_cohort_is_built(fraction: float) -> None:
    """Losses, views and gradients are those of a cohort that was built so."""
    given = (TWO, ["rotation", "simclr"], "collaborative")
    changed, objective = make_cohort(*given, fractions={"a": 0.5, "b": 0.5})
    for tasks in changed.tasks.values():
        for task in tasks.values():  # type: ignore[operator]
            task.fraction = fraction
    built, _ = make_cohort(*given, fractions={"a": fraction, "b": fraction})
    batch = make_batch(8)
    assert changed.views_of == built.views_of
    for cohort in (changed, built):
        objective(cohort(batch)).backward()
    torch.testing.assert_close(gradients(changed), gradients(built), atol=0, rtol=0)


def test_a_view_that_there_is_not_is_refused_when_a_cohort_is_built() -> None:
    class Sideways(Task):
        views = ("sideways",)

        def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
            raise NotImplementedError

    built, _ = make_cohort(TWO)
    with pytest.raises(UserError, match="Unknown view 'sideways'"):
        Cohort(dict(built.students.items()), {"a": {"own": Sideways()}}, built.method)  # type: ignore[arg-type]


def test_only_clean_images_count_as_statistics_if_so_asked() -> None:
    def statistics(view_statistics: str, tasks: list[str | None]) -> torch.Tensor:
        cohort, _ = make_cohort(TWO, tasks, view_statistics=view_statistics)
        cohort(make_batch())
        return cohort.students["a"].backbone.bn.running_mean.clone()

    alone = statistics("together", [None, None])
    torch.testing.assert_close(statistics("clean_only", ["rotation", None]), alone)
    assert not torch.allclose(statistics("together", ["rotation", None]), alone, atol=1e-6)


def test_the_clean_marks_do_not_depend_on_other_views_in_clean_only() -> None:
    alone, _ = make_cohort(TWO, [None, None])
    with_task, _ = make_cohort(TWO, ["rotation", "contrastive"], view_statistics="clean_only")
    torch.testing.assert_close(alone(make_batch())["a/ce"], with_task(make_batch())["a/ce"])


def test_students_start_from_the_same_weights_whatever_method_and_tasks_they_get() -> None:
    plain, _ = make_cohort(TWO)
    rich, _ = make_cohort(TWO, ["rotation", "supcon"], "collaborative")
    torch.testing.assert_close(plain.students.state_dict(), rich.students.state_dict(), atol=0, rtol=0)


def test_a_compiled_cohort_gives_the_same_losses() -> None:  # of other methods: in their own files
    cohort, _ = make_cohort(MIXED, ["rotation", "supcon", "contrastive"], "collaborative")
    assert_compiled_losses_are_the_same(cohort)


def test_parameter_groups_hold_every_parameter_once() -> None:
    cohort, _ = make_cohort(TWO, ["rotation", "supcon"], "collaborative")
    groups = cohort.parameter_groups()
    assert list(groups) == ["a", "b", "cpm", "a/rotation", "b/supcon"]
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in cohort.parameters())


@pytest.mark.parametrize("model", ["resnet8", "resnet20", "resnet32"])
def test_what_is_there_for_training_only_is_smaller_than_the_students_together(model: str) -> None:
    cohort, _ = make_cohort({"a": model, "b": model}, ["rotation", "supcon"], "collaborative")
    students, training_only = cohort.parameter_counts()
    assert 0 < training_only <= sum(students.values())


def test_predictions_come_from_every_student_and_from_the_teacher_that_answers() -> None:
    cohort, _ = make_cohort(MIXED, method="collaborative")
    logits = cohort.eval().predict(make_batch(3).images)
    assert list(logits) == [*MIXED, "cpm"]
    assert all(answer.shape == (3, 5) for answer in logits.values())


def test_peers_of_equal_weights_are_noticed() -> None:
    cohort, _ = make_cohort({**TWO, "c": "cnn"})
    assert cohort.identical_peers() == []
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    assert cohort.identical_peers() == [("a", "b")]


@pytest.mark.parametrize(
    ("students", "message"),
    [
        ({}, "A cohort needs a student, got none"),
        ({"a/b": "resnet8", "c": "resnet8"}, "may not be empty or contain"),
        ({"cpm": "resnet8", "b": "resnet8"}, "'cpm' is taken by a part of this method"),
    ],
)
def test_names_that_would_be_ambiguous_are_refused(students: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_cohort(students, method="collaborative" if students else "independent")


def test_a_student_without_a_peer_can_be_taught_nothing() -> None:
    cohort, _ = make_cohort({"a": "resnet8"})
    assert set(cohort(make_batch())) == {"a/ce"}
    with pytest.raises(UserError, match=r"Student 'a' is alone: it has no peer for what the method teaches \(peers\)"):
        make_cohort({"a": "resnet8"}, method="dml")
