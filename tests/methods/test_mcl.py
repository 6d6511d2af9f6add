"""Mutual contrastive learning, against loops over anchors and pairs."""

import math

import pytest
import references
import torch
from cohorts import CLASSES, assert_compiled_losses_are_the_same, assert_every_parameter_learns, make_batch, make_cohort

from codistill import Batch, StudentOutput, StudentShape
from codistill.core.losses.contrastive import contrast
from codistill.methods.mcl import MutualContrast, mcl, soft_contrast

EQUAL = {"a": "resnet8", "b": "resnet8"}
UNEQUAL = {"a": "resnet8", "b": "cnn"}
THREE = {"a": "resnet8", "b": "cnn", "c": "vit"}
LABELS = {
    "pairs": [0, 1, 0, 1, 2, 2],
    "uneven": [0, 0, 0, 1, 1, 2],
    "one class": [3] * 6,
    "all different": [0, 1, 2, 3, 4, 5],
}


def literal_contrast(similarity: torch.Tensor, labels: list[int]) -> float:
    losses = []
    for a, row in enumerate(similarity.tolist()):
        others = [b for b in range(len(row)) if b != a]
        positives = [b for b in others if labels[b] == labels[a]]
        if positives:
            total = sum(math.exp(row[b]) for b in others)
            losses.append(-sum(math.log(math.exp(row[b]) / total) for b in positives) / len(positives))
    return sum(losses) / len(losses) if losses else 0.0


def literal_soft(similarity: torch.Tensor, other: torch.Tensor, temperature: float, own_image: bool) -> float:
    def kept(s: torch.Tensor) -> torch.Tensor:
        rows = s.tolist()
        return torch.tensor([[v for b, v in enumerate(row) if own_image or b != a] for a, row in enumerate(rows)])

    return references.kl(kept(similarity), kept(other), temperature)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_the_contrast_of_classes_is_the_literal_one(labels: list[int]) -> None:
    torch.manual_seed(0)
    similarity = torch.randn(6, 6) * 5
    loss = contrast(similarity, torch.tensor(labels))
    assert loss.item() == pytest.approx(literal_contrast(similarity, labels), abs=1e-5)


@pytest.mark.parametrize("own_image", [False, True])
def test_imitating_similarities_is_the_sum_of_literal_divergences(own_image: bool) -> None:
    torch.manual_seed(0)
    similarity, *others = torch.randn(3, 6, 6) * 5
    expected = sum(literal_soft(similarity, other, 3.0, own_image) for other in others)
    loss = soft_contrast(similarity, torch.stack(others), 3.0, own_image)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("students", [2, 3])
def test_the_losses_of_each_student_are_sums_over_its_peers(students: int) -> None:
    torch.manual_seed(0)
    names = ["a", "b", "c"][:students]
    shapes = {name: StudentShape(CLASSES, 6 + i, ((6, 2, 2),)) for i, name in enumerate(names)}
    teacher = MutualContrast(shapes, tau=0.1, width=4, soft_temperature=3.0, own_image=False)
    outputs = {n: StudentOutput(torch.randn(6, CLASSES), torch.randn(6, s.embedding), ()) for n, s in shapes.items()}
    labels = LABELS["uneven"]
    losses = teacher(outputs, Batch(torch.zeros(6, 3, 1, 1), torch.tensor(labels))).losses
    e = {name: teacher.projections[name](outputs[name].embedding).tolist() for name in names}
    s = {
        (i, j): torch.tensor([[references.cosine(u, v) / 0.1 for v in e[j]] for u in e[i]])
        for i in names
        for j in names
    }
    for i in names:
        peers = [j for j in names if j != i]
        expected = {
            "vcl": literal_contrast(s[i, i], labels),
            "icl": sum(literal_contrast(s[i, j], labels) for j in peers),
            "vcl_soft": sum(literal_soft(s[i, i], s[j, j], 3.0, False) for j in peers),
            "icl_soft": sum(literal_soft(s[i, j], s[j, i], 3.0, False) for j in peers),
        }
        for key, value in expected.items():
            assert losses[f"{i}_{key}"].item() == pytest.approx(value, abs=2e-5), key


def test_the_weights_are_the_papers() -> None:
    cohort, objective = make_cohort(EQUAL, method=mcl)
    table = objective.table(cohort(make_batch()))
    weights = {name.removeprefix("contrast/a_"): weight for name, weight in table.items() if name[:10] == "contrast/a"}
    assert weights == {"vcl": 0.1, "icl": 0.1, "vcl_soft": 1.0, "icl_soft": 1.0}


def test_a_student_imitates_fixed_distributions_and_contrast_with_a_peer_trains_both() -> None:
    cohort, _ = make_cohort(UNEQUAL, method=mcl)
    a, b = ({f"students.{name}", f"teachers.contrast.projections.{name}"} for name in "ab")
    expected = {
        "a/ce": {"students.a"},
        "b/ce": {"students.b"},
        "contrast/a_vcl": a,
        "contrast/b_vcl": b,
        "contrast/a_vcl_soft": a,
        "contrast/b_vcl_soft": b,
        **dict.fromkeys(["contrast/a_icl", "contrast/b_icl", "contrast/a_icl_soft", "contrast/b_icl_soft"], a | b),
    }
    losses = cohort(make_batch())
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        cohort.zero_grad()
        loss.backward(retain_graph=True)
        reached = {
            next(module for module in a | b if key.startswith(f"{module}."))
            for key, parameter in cohort.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }
        assert reached == expected[name], name


def test_the_target_of_the_soft_form_between_students_is_detached() -> None:
    torch.manual_seed(0)
    shapes = {name: StudentShape(CLASSES, 6, ((6, 2, 2),)) for name in "ab"}
    teacher = MutualContrast(shapes, tau=0.1, width=4, soft_temperature=3.0, own_image=False)
    embeddings = {name: torch.randn(6, 6, requires_grad=True) for name in "ab"}
    outputs = {name: StudentOutput(torch.randn(6, CLASSES), e, ()) for name, e in embeddings.items()}
    loss = teacher(outputs, Batch(torch.zeros(6, 3, 1, 1), torch.arange(6) % 2)).losses["a_icl_soft"]
    found = torch.autograd.grad(loss, list(embeddings.values()))
    e = [torch.nn.functional.normalize(teacher.projections[name](embeddings[name]), dim=1) for name in "ab"]
    fixed = (e[1] @ e[0].T / 0.1).detach()[None]
    expected = torch.autograd.grad(soft_contrast(e[0] @ e[1].T / 0.1, fixed, 3.0), list(embeddings.values()))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("students", [EQUAL, UNEQUAL, THREE], ids=["equal", "unequal", "three"])
def test_every_parameter_learns_in_every_step(students: dict[str, str]) -> None:
    cohort, objective = make_cohort(students, method=mcl)
    assert_every_parameter_learns(cohort, objective)


def test_a_compiled_cohort_gives_the_same_losses() -> None:
    cohort, _ = make_cohort({"b": "cnn", "c": "vit"}, method=mcl)
    assert_compiled_losses_are_the_same(cohort)


@pytest.mark.parametrize("labels", [[1], [2, 2, 2, 2], [0, 1, 2, 3]], ids=["one image", "one class", "no positives"])
@pytest.mark.parametrize("own_image", [False, True])
def test_degenerate_batches_of_identical_students_give_finite_losses_and_gradients(
    labels: list[int], own_image: bool
) -> None:
    cohort, objective = make_cohort(EQUAL, method=mcl, own_image=own_image)
    cohort.students["b"].load_state_dict(cohort.students["a"].state_dict())
    losses = cohort(make_batch(len(labels))._replace(labels=torch.tensor(labels)))
    objective(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cohort.parameters())
    if len(set(labels)) == len(labels):
        assert losses["contrast/a_vcl"].item() == losses["contrast/a_icl"].item() == 0.0
