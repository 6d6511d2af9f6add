"""Images of two labels, from mixup and CutMix: every loss that knows labels knows both, or is refused."""

import math
from collections.abc import Mapping

import pytest
import references
import torch
from cohorts import CLASSES, make_batch, make_cohort
from torch import Tensor

from codistill.config.schema import make_config
from codistill.core.batch import Batch, Mixed, cross_entropy
from codistill.errors import UserError
from codistill.methods import METHODS
from codistill.tasks import TASKS
from codistill.training.build import build

THREE = {"a": "cnn", "b": "cnn", "c": "cnn"}
SAME = dict.fromkeys(THREE, "resnet8")
OTHER_LABELS = torch.tensor([1, 4, 4, 0, 2, 3])
SHARE_A_TRUNK = ("one", "clilr", "okddip", "pcl")
NEED_ONE_LABEL = {"supcon"}, {"kdcl", "mcl", "switokd"}


def with_share(share: float) -> Batch:
    return make_batch()._replace(mixed=Mixed(OTHER_LABELS, torch.full((6,), share)))


def test_the_cross_entropy_of_mixed_images_is_that_of_both_labels_in_proportion() -> None:
    logits = torch.randn(6, CLASSES, generator=torch.Generator().manual_seed(0))
    shares = [0.0, 0.25, 0.5, 0.7, 0.9, 1.0]
    batch = make_batch()
    expected = 0.0
    for row, own, other, share in zip(
        logits.tolist(), batch.labels.tolist(), OTHER_LABELS.tolist(), shares, strict=True
    ):
        p = references.softmax(row)
        expected -= (share * math.log(p[own]) + (1 - share) * math.log(p[other])) / 6
    mixed = batch._replace(mixed=Mixed(OTHER_LABELS, torch.tensor(shares)))
    assert cross_entropy(logits, mixed).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(cross_entropy(logits, batch), torch.nn.functional.cross_entropy(logits, batch.labels))


def losses(task: str | None, method: str, batch: Batch) -> Mapping[str, Tensor]:
    cohort, _ = make_cohort(SAME if method in SHARE_A_TRUNK else THREE, [task] * 3, method)
    cohort.eval()
    return cohort(batch)


@pytest.mark.parametrize(
    ("task", "method"), [*((task, "independent") for task in TASKS), *((None, method) for method in METHODS)]
)
def test_every_loss_weighs_both_labels_or_says_that_it_needs_one(task: str | None, method: str) -> None:
    cohort, _ = make_cohort(SAME if method in SHARE_A_TRUNK else THREE, [task] * 3, method)
    tasks, methods = NEED_ONE_LABEL
    if task in tasks or method in methods:
        assert cohort.in_need_of_one_label()
        return
    assert not cohort.in_need_of_one_label()
    plain = make_batch()
    others = plain._replace(labels=OTHER_LABELS)
    whole, nothing, half = (losses(task, method, with_share(share)) for share in (1.0, 0.0, 0.5))
    torch.testing.assert_close(whole, losses(task, method, plain))
    torch.testing.assert_close(nothing, losses(task, method, others))
    for name, loss in half.items():  # cross-entropies are linear in the labels, and nothing else reads them
        torch.testing.assert_close(loss, (whole[name] + nothing[name]) / 2)


@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_a_task_on_a_part_of_the_batch_has_that_parts_labels(fraction: float) -> None:
    few = make_cohort(THREE, ["rotation"] * 3, fractions=dict.fromkeys(THREE, fraction))[0].eval()(with_share(0.3))
    rows = max(2, round(fraction * 6))
    part = make_cohort(THREE, ["rotation"] * 3)[0].eval()(with_share(0.3).first_rows(rows))
    torch.testing.assert_close(few["a/rotation"], part["a/rotation"])


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"tasks": ["rotation", "supcon"]}, "task 'supcon' of student 'resnet8_2'"),
        ({"tasks": "none", "method": "mcl"}, "the method's lesson 'contrast'"),
        ({"tasks": "none", "order": "class_pairs"}, "order=class_pairs"),
    ],
)
def test_what_needs_one_label_is_named_before_training(settings: dict[str, object], culprit: str) -> None:
    build(make_config({"method": "dml", **settings}))
    with pytest.raises(UserError, match=r"augment.cutmix gives images two labels each, but (?P<who>.*) needs") as said:
        build(make_config({"method": "dml", **settings, "augment": {"cutmix": 1.0}}))
    assert culprit in str(said.value)


def test_a_cohort_on_mixed_images_can_be_compiled_and_shares_do_not_compile_it_anew() -> None:
    cohort, _ = make_cohort(THREE, ["rotation", None, None], "dml")
    cohort.eval()
    compiled = torch.compile(cohort, fullgraph=True, backend="aot_eager")
    for share in (0.2, 0.7):
        torch.testing.assert_close(compiled(with_share(share)), cohort(with_share(share)), atol=1e-5, rtol=1e-5)
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(with_share(0.4))
