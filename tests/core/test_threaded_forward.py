"""Students in a thread each give the numbers of students one after the other."""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from io import BytesIO

import pytest
import torch
from backbones import PlainCNN, TinyViT
from cohorts import SIZE, gradients, make_batch, make_cohort, threads
from torch import Tensor

from codistill import Cohort, Student, UserError
from codistill.core.forward import Look, one_by_one
from codistill.core.threaded_forward import SideBySide, draws_random_numbers
from codistill.training.runtime import Runtime

SHAPE = (3, SIZE, SIZE)
TWO = {"a": "resnet8", "b": "cnn"}


@pytest.fixture
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threads(2):
        yield


def step(look: Look, method: str, view_statistics: str = "together", **settings: object) -> dict[str, Tensor]:
    """Losses, gradients and running statistics of one step."""
    cohort, objective = make_cohort(
        TWO, ["rotation", "contrastive"], method, view_statistics=view_statistics, **settings
    )
    cohort.look = look
    losses = cohort(make_batch())
    objective(losses).backward()
    return {**losses, **gradients(cohort), **dict(cohort.named_buffers())}


@pytest.mark.parametrize("view_statistics", ["together", "clean_only"])
@pytest.mark.parametrize("method", ["dml", "collaborative", "hssakd", "afd"])
def test_losses_gradients_and_statistics_are_the_same_to_the_bit(
    method: str, view_statistics: str, one_thread: None
) -> None:
    expected = step(one_by_one, method, view_statistics)
    found = step(SideBySide(2, threads=2), method, view_statistics)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_three_students_on_two_threads_are_the_same_to_the_bit(one_thread: None) -> None:
    three = {"a": "resnet8", "b": "cnn", "c": "resnet8"}
    results = []
    for look in (one_by_one, SideBySide(3, threads=2)):
        cohort, objective = make_cohort(three, method="dml")
        cohort.look = look
        objective(cohort(make_batch())).backward()
        results.append(gradients(cohort))
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_a_student_with_frozen_layers_is_trained_where_it_is_not_frozen(one_thread: None) -> None:
    results = []
    for look in (one_by_one, SideBySide(2, threads=2)):
        cohort, objective = make_cohort(TWO, method="collaborative")
        cohort.students["a"].backbone.requires_grad_(False)  # its maps have no graph, its logits have
        cohort.look = look
        objective(cohort(make_batch())).backward()
        results.append(gradients(cohort))
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_threads_keep_the_mode_of_whoever_calls(one_thread: None) -> None:
    cohort, _ = make_cohort(TWO, method="collaborative")
    cohort.eval()
    batch = make_batch()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = cohort.predict(batch.images)
        cohort.look = SideBySide(2, threads=2)
        found = cohort.predict(batch.images)
    for name, logits in expected.items():
        assert torch.equal(found[name], logits)
        assert found[name].is_inference()
    assert expected["a"].dtype == torch.bfloat16


def test_an_error_in_a_thread_is_raised_to_the_caller() -> None:
    cohort, _ = make_cohort(TWO)
    cohort.look = SideBySide(2, threads=2)
    with pytest.raises(RuntimeError, match="expected input"):
        cohort(make_batch()._replace(images=torch.randn(6, 4, SIZE, SIZE)))


def test_a_cohort_whose_students_run_in_threads_can_be_copied_and_saved(two_threads: None) -> None:
    built, objective = make_cohort(TWO, ["rotation", None], method="dml")
    cohort = Runtime(torch.device("cpu"), side_by_side=True).place(built, SHAPE)
    batch = make_batch()
    objective(cohort(batch)).backward()  # its threads have begun
    cohort.zero_grad()
    file = BytesIO()
    torch.save(cohort, file)
    file.seek(0)
    others = [deepcopy(cohort), torch.load(file, weights_only=False)]
    objective(cohort(batch)).backward()
    for other in others:
        assert isinstance(other.look, SideBySide)
        assert (other.look.threads_each, other.look is cohort.look) == (1, False)
        objective(other(batch)).backward()
        torch.testing.assert_close(gradients(other), gradients(cohort), atol=0, rtol=0)


def test_each_thread_has_its_share_of_the_cores() -> None:
    assert [SideBySide(students, threads).threads_each for students, threads in ((2, 2), (2, 8), (4, 2))] == [1, 4, 1]


def test_a_student_that_draws_random_numbers_is_known_and_left_as_it_was() -> None:
    student, other = Student(TinyViT(SIZE), 5), Student(PlainCNN(), 5)
    state = torch.get_rng_state()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    assert draws_random_numbers(student, SHAPE)
    assert not draws_random_numbers(other, SHAPE)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def placed(cohort: Cohort, **settings: object) -> Look:
    return Runtime(torch.device("cpu"), **settings).place(cohort, SHAPE).look  # type: ignore[arg-type]


def test_the_runtime_puts_students_side_by_side_wherever_that_changes_no_results(two_threads: None) -> None:
    assert isinstance(placed(make_cohort(TWO)[0]), SideBySide)
    assert placed(make_cohort(TWO)[0], side_by_side=False) is one_by_one
    assert placed(make_cohort({"a": "resnet8", "b": "resnet8"}, method="one")[0]) is one_by_one  # shares a trunk
    assert placed(make_cohort({"a": "resnet8", "b": "vit"})[0]) is one_by_one  # dropout


def test_one_thread_alone_runs_students_one_by_one(one_thread: None) -> None:
    assert placed(make_cohort(TWO)[0]) is one_by_one


def test_side_by_side_on_request_says_why_it_cannot_be() -> None:
    with pytest.raises(UserError, match="shares a trunk"):
        placed(make_cohort({"a": "resnet8", "b": "resnet8"}, method="one")[0], side_by_side=True)
    with pytest.raises(UserError, match="Student 'b' draws random numbers"):
        placed(make_cohort({"a": "resnet8", "b": "vit"})[0], side_by_side=True)


def test_cuda_graphs_need_a_cuda_device() -> None:
    with pytest.raises(UserError, match="compile=cuda_graphs needs a CUDA device, not cpu"):
        Runtime(torch.device("cpu"), compile="cuda_graphs")


def test_compiled_students_side_by_side_lose_what_eager_ones_lose(two_threads: None) -> None:
    losses = []
    for compile in (False, True):
        cohort, objective = make_cohort({"a": "cnn", "b": "cnn"}, [None, None], "collaborative")
        runtime = Runtime(torch.device("cpu"), compile=compile)
        runtime.place(cohort, SHAPE)
        module = runtime.compiled(cohort)
        losses.append(module(make_batch()))
        objective(losses[-1]).backward()
        assert all(parameter.grad is not None for parameter in cohort.students.parameters())
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-4)


def test_a_process_can_compile_more_cohorts_than_the_limit_on_recompilations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    # PyTorch's own patch: pytest would delete the limit afterwards, which is no attribute of the module's dictionary,
    # and nothing would compile in this process any more.
    with torch._dynamo.config.patch(recompile_limit=1):
        for model in ("cnn", "resnet8", "cnn"):
            cohort, _ = make_cohort({"a": model, "b": model}, [None, None], "dml")
            Runtime(torch.device("cpu"), compile=True).compiled(cohort)(make_batch())
