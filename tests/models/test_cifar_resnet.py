"""The CIFAR residual networks."""

import pytest
import torch

from codistill import Student, UserError, observe_shapes
from codistill.models import CifarResNet


def test_every_stage_map_is_given_and_the_embedding_is_the_mean_of_the_last() -> None:
    student = Student(CifarResNet(14), 7).eval()
    output = student(torch.randn(2, 3, 32, 32))
    assert [tuple(m.shape) for m in output.feature_maps] == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]
    torch.testing.assert_close(output.embedding, output.feature_maps[-1].mean(dim=(2, 3)))
    assert output.logits.shape == (2, 7)


def test_observing_shapes_leaves_no_trace_in_the_student() -> None:
    student = Student(CifarResNet(8), 7)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    shape = observe_shapes(student, (3, 24, 24))
    assert shape == (7, 64, ((16, 24, 24), (32, 12, 12), (64, 6, 6)))
    assert student.training
    torch.testing.assert_close(student.state_dict(), before, atol=0, rtol=0)


@pytest.mark.parametrize("depth", [2, 9, 18])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(UserError, match=f"6n \\+ 2 with n >= 1, got {depth}"):
        CifarResNet(depth)


def test_a_bottleneck_network_has_depth_9n_plus_2() -> None:
    with pytest.raises(UserError, match=r"of bottleneck blocks has depth 9n \+ 2 with n >= 1, got 32"):
        CifarResNet(32, bottleneck=True)
