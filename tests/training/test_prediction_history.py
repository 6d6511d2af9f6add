"""Answers over epochs: small, and the same after they went through a checkpoint."""

import io

import pytest
import torch

from codistill.training.prediction_history import Answers
from codistill.training.probe import Glance

LABELS = torch.tensor([0, 1, 299])


def seen(*given: int) -> Glance:
    return Glance({"a": torch.tensor(given), "cpm": LABELS}, {"a": torch.eye(3)}, LABELS)


def test_a_checkpoint_takes_them_up_where_they_were() -> None:
    whole, broken = Answers(300), Answers(300)
    whole.add(1, seen(0, 0, 0))
    broken.add(1, seen(0, 0, 0))
    file = io.BytesIO()
    torch.save(broken.state(), file)
    file.seek(0)
    resumed = Answers(300)
    resumed.restore(torch.load(file, weights_only=True))
    for answers in (whole, resumed):
        answers.add(2, seen(0, 1, 299))
    assert resumed.speakers == ["a", "cpm"]
    torch.testing.assert_close(resumed.state(), whole.state(), atol=0, rtol=0)
    assert whole.state()["answers/a"].tolist() == [[0, 0, 0], [0, 1, 299]]
    assert whole.state()["epochs"].tolist() == [1, 2]


@pytest.mark.parametrize(("classes", "bytes_each"), [(2, 1), (256, 1), (257, 2), (32_768, 2), (32_769, 4)])
def test_an_answer_takes_as_few_bytes_as_the_classes_allow(classes: int, bytes_each: int) -> None:
    answers = Answers(classes)
    last = torch.tensor([classes - 1])
    answers.add(1, Glance({"a": last}, {}, last))
    state = answers.state()
    assert state["answers/a"].element_size() == bytes_each
    assert state["answers/a"].item() == state["labels"].item() == classes - 1


def test_a_checkpoint_within_the_first_epoch_holds_none() -> None:
    answers = Answers(10)
    answers.restore(Answers(10).state())
    assert answers.state() == {}
    answers.add(5, Glance({"a": torch.tensor([1, 2, 3])}, {}, torch.tensor([1, 2, 3])))
    assert answers.state()["epochs"].tolist() == [5]
