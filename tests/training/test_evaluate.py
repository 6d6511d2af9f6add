"""Accuracy."""

import torch
from cohorts import make_batch, make_cohort

from codistill.training.evaluate import evaluate, mean_probability
from codistill.training.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


def test_the_ensemble_is_the_mean_of_probabilities_and_not_of_logits() -> None:
    sure, unsure = torch.tensor([[10.0, 0.0]]), torch.tensor([[0.0, 15.0]])
    expected = (sure.softmax(-1) + unsure.softmax(-1)) / 2
    torch.testing.assert_close(mean_probability([sure, unsure]), expected)


def test_accuracies_are_counted_over_all_batches_also_uneven_ones() -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "cnn"}, method="collaborative")
    batches = [make_batch(6, seed=1), make_batch(3, seed=2)]
    accuracy = evaluate(cohort, batches, CPU)
    assert cohort.training
    cohort.eval()
    for name in ("a", "b", "cpm"):
        hits = [cohort.predict(b.images)[name].argmax(1) == b.labels for b in batches]
        found = accuracy.teacher if name == "cpm" else accuracy.students[name]
        assert found == 100 * torch.cat(hits).double().mean().item()


def test_a_student_may_be_named_ensemble() -> None:
    cohort, _ = make_cohort({"ensemble": "resnet8", "b": "cnn"})
    cohort.eval()
    batch = make_batch(20)
    right = cohort.predict(batch.images)["ensemble"].argmax(1) == batch.labels
    assert evaluate(cohort, [batch], CPU).students["ensemble"] == 100 * right.double().mean().item()


def test_without_a_teacher_there_is_no_teachers_accuracy() -> None:
    cohort, _ = make_cohort({"a": "resnet8", "b": "cnn"}, method="dml")
    assert evaluate(cohort, [make_batch()], CPU).teacher is None
