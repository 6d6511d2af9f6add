"""The CIFAR residual networks."""

import pytest
import torch

from codistill import Student, UserError, observe_shapes
from codistill.models import MODELS, CifarResNet

# With 100 classes. From the papers' layer tables: 3x3 convolutions without bias, batch normalisation, projection
# shortcuts at the two changes of shape, one linear classifier.
PARAMETERS = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_parameter_count_is_the_papers(name: str) -> None:
    student = Student(MODELS[name](), 100)
    assert sum(parameter.numel() for parameter in student.parameters()) == PARAMETERS[name]


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
