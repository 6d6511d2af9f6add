"""KDCL: its four ensembles against loops, what they promise, and a training step."""

import math
from collections.abc import Mapping, Sequence

import pytest
import references
import torch
from cohorts import CLASSES, assert_every_parameter_learns, gradients, make_batch, make_cohort

from codistill import Method, StudentShape, UserError
from codistill.config.schema import make_config
from codistill.methods.kdcl import Ensemble, error_covariance, general_weights, kdcl, linear_weights, minlogit, naive

TWO = {"a": "resnet8", "b": "resnet8"}
WIDTHS = {"a": "resnet8", "b": "cnn"}
THREE = {"a": "resnet8", "b": "cnn", "c": "vit"}
ENSEMBLES: list[Ensemble] = ["naive", "linear", "minlogit", "general"]


def random_logits(students: int, size: int = 7, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(students)
    labels = torch.randint(0, CLASSES, (size,), generator=generator)
    return scale * torch.randn(students, size, CLASSES, generator=generator), labels


def image_ce(row: Sequence[float], label: int) -> float:
    return -math.log(references.softmax(list(row))[label])


def literal_naive(logits: torch.Tensor, labels: list[int], choose_per: str) -> torch.Tensor:
    ce = [[image_ce(row, y) for row, y in zip(rows.tolist(), labels, strict=True)] for rows in logits]
    chosen = []
    for b in range(len(labels)):
        score = [losses[b] if choose_per == "image" else sum(losses) for losses in ce]
        chosen.append(logits[score.index(min(score)), b])
    return torch.stack(chosen)


def literal_minlogit(logits: torch.Tensor, labels: list[int]) -> torch.Tensor:
    rows = logits.tolist()
    return torch.tensor([[min(z[b][c] - z[b][y] for z in rows) for c in range(CLASSES)] for b, y in enumerate(labels)])


def literal_best_mixture(logits: torch.Tensor, labels: list[int], choose_per: str) -> list[float]:
    """The lowest cross-entropies, of each image or of the whole batch, on a fine grid of two students' weights."""
    first, second = logits.tolist()

    def mixed_ce(a: float, b: int) -> float:
        return image_ce([a * u + (1 - a) * v for u, v in zip(first[b], second[b], strict=True)], labels[b])

    grid = [step / 500 for step in range(501)]
    images = range(len(labels))
    if choose_per == "image":
        return [min(mixed_ce(a, b) for a in grid) for b in images]
    return [min(sum(mixed_ce(a, b) for b in images) / len(labels) for a in grid)]


def literal_covariance(logits: torch.Tensor, labels: list[int]) -> torch.Tensor:
    students, size, classes = logits.shape
    out = torch.zeros(students, students)
    for i in range(students):
        for j in range(students):
            for b, y in enumerate(labels):
                p, q = references.softmax(logits[i, b].tolist()), references.softmax(logits[j, b].tolist())
                out[i, j] += sum((p[c] - (c == y)) * (q[c] - (c == y)) for c in range(classes)) / size
    return out


def literal_general(covariance: torch.Tensor, ridge: float) -> list[float]:
    """Row sums of the inverse over the sum of all its entries, as in the paper."""
    students = len(covariance)
    diagonal = ridge * sum(float(covariance[i, i]) for i in range(students)) / students
    inverse = torch.linalg.inv(covariance.double() + diagonal * torch.eye(students, dtype=torch.double)).tolist()
    return [sum(row) / sum(sum(r) for r in inverse) for row in inverse]


def mixture_ce(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    mixture = (weights.unsqueeze(2) * logits).sum(dim=0)
    return torch.nn.functional.cross_entropy(mixture, labels, reduction="none")


@pytest.mark.parametrize("students", [2, 3])
@pytest.mark.parametrize("choose_per", ["image", "batch"])
def test_naive_takes_the_student_with_the_lowest_cross_entropy(students: int, choose_per: str) -> None:
    logits, labels = random_logits(students)
    expected = literal_naive(logits, labels.tolist(), choose_per)
    torch.testing.assert_close(naive(logits, labels, choose_per), expected, atol=1e-5, rtol=0)


def test_naive_per_image_and_per_batch_are_not_the_same() -> None:
    logits, labels = random_logits(3)
    assert not torch.equal(naive(logits, labels, "image"), naive(logits, labels, "batch"))


@pytest.mark.parametrize("students", [2, 3])
def test_minlogit_is_the_least_logit_above_the_labels_own(students: int) -> None:
    logits, labels = random_logits(students)
    expected = literal_minlogit(logits, labels.tolist())
    torch.testing.assert_close(minlogit(logits, labels), expected, atol=1e-5, rtol=0)


def test_no_student_beats_the_minlogit_target_on_any_image() -> None:
    logits, labels = random_logits(3, size=50)
    target = torch.nn.functional.cross_entropy(minlogit(logits, labels), labels, reduction="none")
    for student in logits:
        own = torch.nn.functional.cross_entropy(student, labels, reduction="none")
        assert (target <= own + 1e-5).all()


@pytest.mark.parametrize("choose_per", ["image", "batch"])
def test_linear_weights_are_convex_and_reach_the_best_mixture(choose_per: str) -> None:
    logits, labels = random_logits(2)
    weights = linear_weights(logits, labels, steps=300, choose_per=choose_per)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(weights.shape[1]))
    ce = mixture_ce(logits, labels, weights)
    reached = ce.tolist() if choose_per == "image" else [ce.mean().item()]
    assert reached == pytest.approx(literal_best_mixture(logits, labels.tolist(), choose_per), abs=2e-3)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("steps", [1, 5, 20])
def test_linear_weights_are_as_close_to_the_best_as_the_docstring_promises(scale: float, steps: int) -> None:
    logits, labels = random_logits(2, scale=scale)
    own = logits - logits.mean(dim=0)
    ranges = (own.amax(dim=2) - own.amin(dim=2)).amax(dim=0)
    reached = mixture_ce(logits, labels, linear_weights(logits, labels, steps))
    best = torch.tensor(literal_best_mixture(logits, labels.tolist(), "image"))
    assert (reached - best <= ranges**2 * math.log(2) / (steps + 1) ** 2 + 1e-4).all()


@pytest.mark.parametrize("students", [2, 3])
def test_the_error_covariance_and_its_weights_are_the_literal_ones(students: int) -> None:
    logits, labels = random_logits(students)
    covariance = error_covariance(logits, labels)
    torch.testing.assert_close(covariance, literal_covariance(logits, labels.tolist()), atol=1e-5, rtol=0)
    assert general_weights(covariance, 0.1).tolist() == pytest.approx(literal_general(covariance, 0.1), abs=1e-5)


def test_general_trusts_the_student_with_the_smaller_errors_and_all_alike_before_it_has_seen_any() -> None:
    better, worse = general_weights(torch.tensor([[0.2, 0.1], [0.1, 0.8]]), ridge=0.1).tolist()
    assert better > 0.8 > worse
    assert general_weights(torch.zeros(3, 3), ridge=0.1).tolist() == pytest.approx([1 / 3] * 3)
    assert general_weights(torch.full((3, 3), 0.5), ridge=0.1).tolist() == pytest.approx([1 / 3] * 3, abs=1e-4)


def test_generals_target_comes_from_the_batches_before_and_evaluation_teaches_it_nothing() -> None:
    cohort, _ = make_cohort(WIDTHS, method=kdcl, ensemble="general", memory=0.75, ridge=0.2)
    teacher = cohort.teachers["ensemble"]
    logits, labels = random_logits(2)
    torch.testing.assert_close(teacher.fuse(logits, labels), logits.mean(dim=0))
    expected = 0.25 * literal_covariance(logits, labels.tolist())
    torch.testing.assert_close(teacher.covariance, expected, atol=1e-5, rtol=0)
    cohort.eval()
    weights = literal_general(expected, 0.2)
    mixed = weights[0] * logits[0] + weights[1] * logits[1]
    torch.testing.assert_close(teacher.fuse(logits, labels), mixed, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(teacher.covariance, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_every_student_learns_from_the_one_target(ensemble: str) -> None:
    cohort, objective = make_cohort(THREE, method=kdcl, ensemble=ensemble, temperature=2.0, own_augmentations=False)
    cohort.eval()
    batch = make_batch()
    losses, logits = cohort(batch), cohort.predict(batch.images)
    target = cohort.teachers["ensemble"].fuse(torch.stack(list(logits.values())), batch.labels)
    assert set(losses) == {f"{name}/{loss}" for name in THREE for loss in ("ce", "ensemble_kl")}
    for name in THREE:
        expected = references.kl(logits[name], target, 2.0)
        assert losses[f"{name}/ensemble_kl"].item() == pytest.approx(expected, abs=1e-5)
    assert set(objective.table(losses).values()) == {1.0}


@pytest.mark.parametrize(("own", "augmentations"), [(True, 2), (False, 1)])
def test_each_student_sees_its_own_augmentation_unless_told_otherwise(own: bool, augmentations: int) -> None:
    cohort, _ = make_cohort(TWO, method=kdcl, own_augmentations=own)
    assert cohort.augmentations == augmentations
    batch = make_batch()
    cohort.eval()
    images = batch.extra[0] if own else batch.images
    expected = torch.nn.functional.cross_entropy(cohort.students["b"](images).logits, batch.labels)
    torch.testing.assert_close(cohort(batch)["b/ce"], expected)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_a_students_losses_train_that_student_only(ensemble: str) -> None:
    cohort, _ = make_cohort(WIDTHS, method=kdcl, ensemble=ensemble)
    losses = cohort(make_batch())
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {key.split(".")[1] for key, gradient in gradients(cohort).items() if gradient.abs().max() > 0}
        assert reached == {name.split("/")[0]}, name


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("students", [TWO, WIDTHS, THREE], ids=["equal", "two widths", "three"])
def test_a_step_trains_every_parameter(students: dict[str, str], ensemble: str) -> None:
    cohort, objective = make_cohort(students, method=kdcl, ensemble=ensemble)
    assert_every_parameter_learns(cohort, objective)


def all_four(shapes: Mapping[str, StudentShape]) -> Method:
    lessons = {ensemble: kdcl(shapes, ensemble=ensemble, steps=3).lessons["ensemble"] for ensemble in ENSEMBLES}
    return Method(lessons, {"*": 1.0}, own_augmentations=True)


def test_a_compiled_cohort_gives_the_same_losses() -> None:
    cohort, _ = make_cohort({"a": "cnn", "b": "cnn"}, method=all_four)
    batch = make_batch()
    cohort(batch)  # so that general has a covariance to start from
    state = {key: value.clone() for key, value in cohort.state_dict().items()}
    fast = torch.compile(cohort, fullgraph=True, backend="aot_eager")(batch)
    covariance = cohort.teachers["general"].covariance.clone()
    cohort.load_state_dict(state)
    torch.testing.assert_close(fast, cohort(batch), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cohort.teachers["general"].covariance, covariance)
    assert len(fast) == 2 * 5


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_one_class_one_image_and_students_that_agree_are_no_trouble(ensemble: str) -> None:
    cohort, objective = make_cohort(TWO, method=kdcl, ensemble=ensemble, own_augmentations=False)
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    batch = make_batch()
    for _ in range(3):
        losses = cohort(batch._replace(labels=torch.zeros_like(batch.labels)))
        assert all(loss.isfinite() for loss in losses.values())
        assert losses["a/ensemble_kl"].item() == pytest.approx(0.0, abs=1e-4)  # the target is what both say
    losses = cohort(make_batch(1))
    objective(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients(cohort).values())


def test_logits_far_apart_give_finite_targets() -> None:
    logits, labels = random_logits(2, scale=1000.0)
    weights = general_weights(error_covariance(logits, labels), ridge=0.1)
    assert weights.isfinite().all()
    assert linear_weights(logits, labels).isfinite().all()
    assert minlogit(logits, labels).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble": "minlogits"}, "ensemble should be 'naive', 'linear', 'minlogit' or 'general'"),
        ({"choose_per": "epoch"}, "choose_per should be 'image' or 'batch'"),
        ({"ridge": 0.0}, "ridge should be greater than 0"),
        ({"memory": 1.0}, "memory should be less than 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_config({"method": {"name": "kdcl", **settings}})
