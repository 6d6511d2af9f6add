"""SwitOKD: gap, threshold and modes against loops, and who stands still when."""

import math
from typing import Any

import pytest
import references
import torch
from cohorts import CLASSES, gradients, make_batch, make_cohort

from codistill import Batch, Cohort, Lesson, Method, StudentOutput, StudentShape, Taught, UserError
from codistill.core.losses import KL
from codistill.methods.switokd import Switch, gaps, label_distances, switch, switokd, thresholds

TWO = {"a": "resnet8", "b": "resnet8"}
WIDTHS = {"a": "resnet8", "b": "cnn"}
THREE = {"a": "resnet8", "b": "cnn", "c": "vit"}
NAMES = ["a", "b", "c"]
SEEDS = range(12)


def one_is_sure_and_wrong(cohort: Cohort, conviction: float = 8.0) -> Batch:
    """A batch of class 0, and students of which the last answers class 1: too far behind to be imitated."""
    last = list(cohort.students.values())[-1]
    with torch.no_grad():
        last.classifier.bias[1] += conviction
    batch = make_batch()
    return batch._replace(labels=torch.zeros_like(batch.labels))


def random_logits(students: int, seed: int, size: int = 6) -> tuple[torch.Tensor, list[int]]:
    """Students that err more or less and know the label more or less, so that both modes turn up."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (size,), generator=generator)
    skill = 5 * torch.rand(students, 1, 1, generator=generator)
    hint = torch.nn.functional.one_hot(labels, CLASSES)
    error = 4 * torch.rand(1, generator=generator) * torch.randn(students, size, CLASSES, generator=generator)
    return error + skill * hint, labels.tolist()


def teach(logits: torch.Tensor, labels: list[int], temperature: float, teacher: str | None) -> Taught:
    names = NAMES[: len(logits)]
    shape = StudentShape(CLASSES, 4, ((4, 1, 1),))
    outputs = {name: StudentOutput(z, z, ()) for name, z in zip(names, logits, strict=True)}
    batch = Batch(torch.zeros(len(labels), 1), torch.tensor(labels))
    return Switch(dict.fromkeys(names, shape), temperature, teacher)(outputs, batch)


def l1(p: list[float], q: list[float]) -> float:
    return sum(abs(u - v) for u, v in zip(p, q, strict=True))


def literal_pair(teacher: torch.Tensor, student: torch.Tensor, labels: list[int], t: float) -> dict[str, float]:
    """Distances to the labels, gap and threshold of one teacher and one student, (B, K) each."""
    d_teacher = d_student = gap = 0.0
    for z_t, z_s, y in zip(teacher.tolist(), student.tolist(), labels, strict=True):
        p_t, p_s = (references.softmax([value / t for value in z]) for z in (z_t, z_s))
        one_hot = [float(c == y) for c in range(CLASSES)]
        d_teacher += l1(p_t, one_hot) / len(labels)
        d_student += l1(p_s, one_hot) / len(labels)
        gap += l1(p_t, p_s) / len(labels)
    threshold = d_student - math.exp(-d_teacher / (d_teacher + d_student)) * d_teacher
    return {"teacher": d_teacher, "student": d_student, "gap": gap, "threshold": threshold}


def literal_modes(
    logits: torch.Tensor, labels: list[int], t: float, teacher: str | None
) -> tuple[list[list[bool]], list[bool]]:
    """Which pairs (row teacher, column student) are in expert mode, and who waits."""
    students = len(logits)
    expert = [[False] * students for _ in range(students)]
    waits = [False] * students
    for i in range(students):
        pupils = []
        for j in range(students):
            pair = literal_pair(logits[i], logits[j], labels, t)
            ahead = pair["teacher"] < pair["student"]
            if j != i and (ahead if teacher is None else NAMES[i] == teacher):
                pupils.append(j)
                expert[i][j] = ahead and pair["gap"] > pair["threshold"]
        waits[i] = bool(pupils) and all(expert[i][j] for j in pupils)
    return expert, waits


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_distances_gap_and_threshold_are_the_literal_ones(temperature: float) -> None:
    logits, labels = random_logits(3, seed=0)
    probabilities = (logits / temperature).softmax(dim=2)
    distances, gap = label_distances(probabilities, torch.tensor(labels)), gaps(probabilities)
    threshold = thresholds(distances)
    for i in range(3):
        for j in range(3):
            pair = literal_pair(logits[i], logits[j], labels, temperature)
            assert distances[i].item() == pytest.approx(pair["teacher"], abs=1e-5)
            assert gap[i, j].item() == pytest.approx(pair["gap"], abs=1e-5)
            assert threshold[i, j].item() == pytest.approx(pair["threshold"], abs=1e-5)


@pytest.mark.parametrize("students", [2, 3])
@pytest.mark.parametrize("teacher", [None, "a"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_links_and_loss_scales_follow_the_modes(students: int, teacher: str | None, temperature: float) -> None:
    seen_waits = set()
    for seed in SEEDS:
        logits, labels = random_logits(students, seed)
        taught = teach(logits, labels, temperature, teacher)
        expert, waits = literal_modes(logits, labels, temperature, teacher)
        for i, name in enumerate(NAMES[:students]):
            others = [j for j in range(students) if j != i]
            assert taught.loss_scale[name].item() == float(not waits[i])
            assert taught.targets[name].weights.tolist() == [float(not expert[i][j]) for j in others]
            torch.testing.assert_close(taught.targets[name].logits, logits[others])
        seen_waits.add(any(waits))
    assert seen_waits == {True, False}  # both modes have been looked at


def test_three_students_take_all_the_forms_of_waiting_and_the_last_one_never_waits() -> None:
    found = set()
    for seed in range(60):
        logits, labels = random_logits(3, seed)
        distances = label_distances((logits / 2).softmax(dim=2), torch.tensor(labels))
        taught = teach(logits, labels, 2.0, None)
        best_to_worst = [NAMES[i] for i in distances.argsort().tolist()]
        found.add(tuple(int(taught.loss_scale[name].item()) for name in best_to_worst))
    assert all(last == 1 for *_, last in found)
    assert {(1, 1, 1), (0, 1, 1)} <= found


def test_a_named_teacher_is_the_only_one_that_waits() -> None:
    waiting = set()
    for seed in SEEDS:
        logits, labels = random_logits(3, seed)
        scales = teach(logits, labels, 2.0, "b").loss_scale
        waiting |= {name for name, factor in scales.items() if factor == 0.0}
    assert waiting == {"b"}


def test_a_teacher_with_one_student_within_reach_stops_imitating_only_the_other() -> None:
    teaches = torch.tensor([[False, True, True], [False, False, False], [False, False, False]])
    distances, gap = torch.tensor([0.5, 0.6, 1.5]), torch.tensor([[0.0, 0.2, 1.3], [0.2, 0.0, 1.0], [1.3, 1.0, 0.0]])
    expert, waits = switch(distances, gap, teaches)  # thresholds of the first row: 0.28 and 1.11
    assert expert.tolist() == [[False, False, True], [False] * 3, [False] * 3]
    assert waits.tolist() == [False] * 3
    gap[0, 1] = 0.3
    assert switch(distances, gap, teaches)[1].tolist() == [True, False, False]


def test_losses_are_the_weighted_sum_over_the_others_and_a_waiting_students_are_logged_as_they_are() -> None:
    cohort, objective = make_cohort(THREE, method=switokd, temperature=2.0)
    batch = one_is_sure_and_wrong(cohort)
    cohort.eval()
    labels = batch.labels.tolist()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    expert, waits = literal_modes(torch.stack(list(logits.values())), labels, 2.0, None)
    assert any(waits)
    for i, name in enumerate(THREE):
        others = [j for j in range(3) if j != i and not expert[i][j]]
        kl = sum(references.kl(logits[name], logits[NAMES[j]], 2.0) for j in others)
        assert losses[f"{name}/peers_kl"].item() == pytest.approx(kl, abs=1e-5)
        ce = references.cross_entropy(logits[name], labels)
        assert losses[f"{name}/ce"].item() == pytest.approx(ce, abs=1e-5)
    assert set(objective.table(losses).values()) == {1.0}
    assert objective(losses).item() == pytest.approx(sum(loss.item() for loss in losses.values()))


class Unscaled(Switch):
    """Leaves it to the loop to scale what is minimised."""

    def forward(self, *given: Any) -> Taught:
        taught = super().forward(*given)
        self.loss_scale = taught.loss_scale
        return taught._replace(loss_scale={})


@pytest.mark.parametrize("conviction", [0.5, 8.0], ids=["learning mode", "expert mode"])
def test_gradients_are_bit_for_bit_those_of_losses_times_their_scale(conviction: float) -> None:
    def method(shapes: dict[str, StudentShape]) -> Method:
        return Method({"peers": Lesson(Unscaled(shapes, 2.0, None), {"kl": KL(2.0)})}, switokd(shapes).weights)

    (cohort, objective), (plain, _) = (make_cohort(TWO, ["rotation", "supcon"], made) for made in (switokd, method))
    for made in (cohort, plain):
        made.students["b"].load_state_dict(made.students["a"].state_dict())
    objective(cohort(one_is_sure_and_wrong(cohort, conviction))).backward()
    losses = plain(one_is_sure_and_wrong(plain, conviction))
    scales = plain.teachers["peers"].loss_scale
    assert (scales["a"].item() == 0.0) is (conviction > 1)
    objective({name: loss * scales[name.split("/")[0]] for name, loss in losses.items()}).backward()
    torch.testing.assert_close(gradients(cohort), gradients(plain), atol=0, rtol=0)


@pytest.mark.parametrize("conviction", [0.5, 8.0], ids=["learning mode", "expert mode"])
def test_a_students_losses_train_that_student_only_and_a_waiting_one_not_at_all(conviction: float) -> None:
    cohort, _ = make_cohort(TWO, ["rotation", "supcon"], switokd)
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    losses = cohort(one_is_sure_and_wrong(cohort, conviction))
    assert set(losses) == {"a/ce", "a/rotation", "a/peers_kl", "b/ce", "b/supcon", "b/peers_kl"}
    waiting = "a" if conviction > 1 else None
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {key.split(".")[1] for key, gradient in gradients(cohort).items() if gradient.abs().max() > 0}
        student = name.split("/")[0]
        assert reached == (set() if student == waiting else {student}), name


@pytest.mark.parametrize("students", [TWO, WIDTHS, THREE], ids=["equal", "two widths", "three"])
@pytest.mark.parametrize("teacher", [None, "a"])
@pytest.mark.parametrize("conviction", [0.0, 8.0])
def test_a_step_gives_every_parameter_a_gradient_in_either_mode(
    students: dict[str, str], teacher: str | None, conviction: float
) -> None:
    cohort, objective = make_cohort(students, method=switokd, teacher=teacher)
    losses = cohort(one_is_sure_and_wrong(cohort, conviction))
    objective.table(losses)
    objective(losses).backward()
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    assert [name for name, parameter in cohort.named_parameters() if parameter.grad is None] == []


def test_one_compiled_cohort_gives_the_same_losses_in_either_mode() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, method=switokd)
    compiled = torch.compile(cohort, fullgraph=True, backend="aot_eager")
    modes = set()
    for conviction in (0.0, 8.0):
        batch = one_is_sure_and_wrong(cohort, conviction)
        losses = cohort(batch)
        torch.testing.assert_close(compiled(batch), losses, atol=1e-5, rtol=1e-5)
        cohort.zero_grad()
        compiled(batch)["a/ce"].backward()
        modes.add(any(gradient.any() for gradient in gradients(cohort).values()))
    assert modes == {True, False}


def test_one_image_perfect_students_and_students_that_agree_are_no_trouble() -> None:
    cohort, _ = make_cohort(TWO, method=switokd)
    assert all(loss.isfinite() for loss in cohort(make_batch(1)).values())
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    losses = cohort(make_batch())
    assert losses["a/ce"] == losses["b/ce"] > 0  # nobody is ahead, so nobody waits
    sure = torch.full((2, 3, CLASSES), -1e4)
    sure[:, :, 2] = 1e4
    taught = teach(sure, [2, 2, 2], 2.0, None)
    assert [factor.item() for factor in taught.loss_scale.values()] == [1.0, 1.0]
    assert thresholds(torch.zeros(2)).isfinite().all()


def test_a_teacher_that_is_no_student_is_refused() -> None:
    with pytest.raises(UserError, match=r"Unknown teacher 'c'. Choices: a, b"):
        make_cohort(TWO, method=switokd, teacher="c")
