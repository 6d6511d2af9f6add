"""Who is right where others are wrong."""

import numpy as np

from codistill.metrics.advantages import alone, class_accuracies, most_confident, taken_for
from codistill.metrics.examples import PARTING, SHOWN, choose_examples


def flags(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def test_the_most_confident_images_come_first_and_equal_ones_in_their_order() -> None:
    confidence = np.array([0.1, 0.9, 0.5, 0.9, 1.0])
    assert most_confident(flags("xxxx."), confidence) == [1, 3, 2, 0]
    assert most_confident(flags("xxxx."), confidence, most=2) == [1, 3]
    assert most_confident(flags("....."), confidence) == []


def test_alone_is_who_is_right_where_nobody_else_is() -> None:
    assert alone(flags("xxx."), [flags("x..."), flags("..x.")]).tolist() == flags(".x..").tolist()


def test_the_accuracy_of_a_class_without_images_is_no_number() -> None:
    found = class_accuracies(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), 3)
    np.testing.assert_allclose(found, [2 / 3, 1.0, np.nan])


def test_examples_are_the_most_telling_of_each_kind_and_some_that_tell_nothing() -> None:
    chosen = choose_examples({"a/b": list(range(10, 60)), "b/a": [10, 70], "cpm/a": []}, 600)
    assert len(chosen) == SHOWN
    assert list(chosen)[:4] == [10, 11, 70, 12]
    assert list(chosen.values()).count("spread") == SHOWN - PARTING
    assert chosen[70] == "b/a"


def test_a_small_split_is_shown_whole() -> None:
    assert sorted(choose_examples({"a/b": [2]}, 3)) == [0, 1, 2]
    assert len(choose_examples({}, 100)) == SHOWN


def test_a_class_is_taken_for_the_wrong_answer_that_its_images_get_most_often() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 3])
    answers = np.array([0, 2, 1, 2, 0, 2, 1, 3])
    assert taken_for(answers, labels, 4) == [[1, 1], [2, 2], None, None]
