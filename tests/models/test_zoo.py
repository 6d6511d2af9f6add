"""Every model of the table: as large as published, with the interface, and as fast as it can be in place."""

import copy
import inspect

import pytest
import torch

from codistill import Student, UserError, observe_shapes
from codistill.core.student import Branchable, share_trunk
from codistill.models import MODELS, WIDE, Staged, make_backbone
from codistill.models.densenet import DenseNet
from codistill.models.wide_resnet import WideResNet

# With 100 classes, classifier included. CRD (arXiv:1910.10699) and its successors print them rounded, in millions:
# resnet20 0.28, resnet56 0.86, resnet110 1.74, resnet8x4 1.23, resnet32x4 7.43, WRN-16-2 0.70, WRN-40-1 0.57, WRN-40-2
# 2.26, vgg8 3.97, vgg13 9.46, MobileNetV2 0.81, ShuffleNetV1 0.95, ShuffleNetV2 1.36; Zagoruyko & Komodakis WRN-28-10
# 36.5; Huang et al. DenseNet-40-12 1.0 with 10 classes.
PARAMETERS = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "resnet56_bottleneck": 614_452,
    "resnet110_bottleneck": 1_170_868,
    "wrn_20_8": 6_871_220,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "wrn_28_10": 36_536_884,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "densenet_40_12": 1_060_132,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
}
# One of each kind, small ones.
KINDS = ["resnet8", "resnet8x4", "resnet56_bottleneck", "wrn_16_1", "vgg8", "densenet_40_12", "mobilenetv2"]
KINDS += ["shufflenetv1", "shufflenetv2"]


def test_the_table_is_complete() -> None:
    assert list(MODELS) == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_has_as_many_parameters_as_the_papers_say(name: str) -> None:
    with torch.device("meta"):
        student = Student(make_backbone(name), 100)
    assert sum(parameter.numel() for parameter in student.parameters()) == PARAMETERS[name]


def test_a_densenet_with_ten_classes_has_the_papers_million() -> None:
    with torch.device("meta"):
        student = Student(make_backbone("densenet_40_12"), 10)
    assert sum(parameter.numel() for parameter in student.parameters()) == 1_019_722


def test_a_resnet_110_of_bottlenecks_counted_layer_by_layer() -> None:
    def block(channels: int, width: int) -> int:
        weights = channels * width + 9 * width * width + width * 4 * width
        return weights + 2 * (width + width + 4 * width)

    def first(channels: int, width: int) -> int:
        return block(channels, width) + channels * 4 * width + 2 * 4 * width

    stem = 27 * 16 + 2 * 16
    stages = sum(first(c, w) + 11 * block(4 * w, w) for c, w in ((16, 16), (64, 32), (128, 64)))
    assert stem + stages + 256 * 100 + 100 == PARAMETERS["resnet110_bottleneck"]


@pytest.mark.parametrize("name", KINDS)
def test_a_model_shows_its_maps_and_its_embedding_is_the_mean_of_the_last(name: str) -> None:
    student = Student(make_backbone(name), 7).eval()
    shape = observe_shapes(student, (3, 32, 32))
    assert len(shape.feature_maps) >= 3
    assert shape.feature_maps[-1][0] == shape.embedding == student.backbone.head_hidden_size
    output = student(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(output.embedding, output.feature_maps[-1].mean(dim=(2, 3)))


@pytest.mark.parametrize("name", KINDS)
def test_maps_are_not_changed_in_place_after_they_were_shown(name: str) -> None:
    backbone = make_backbone(name).eval()
    assert isinstance(backbone, Branchable)
    trunk = backbone.forward_trunk(torch.randn(2, 3, 32, 32))
    before = [feature_map.clone() for feature_map in trunk]
    backbone.forward_branch(trunk)
    torch.testing.assert_close(trunk, before, atol=0, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_working_in_place_changes_no_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    student = Student(make_backbone(name), 7).double()
    other = copy.deepcopy(student)

    def gradients(student: Student) -> list[torch.Tensor]:
        output = student(images)
        loss = output.logits.square().mean() + sum(m.square().mean() for m in output.feature_maps)
        return list(torch.autograd.grad(loss, list(student.parameters())))

    given = gradients(student)
    relu, add_ = torch.nn.functional.relu, torch.Tensor.add_
    monkeypatch.setattr("torch.nn.functional.relu", lambda x, inplace=False: relu(x))
    monkeypatch.setattr(torch.Tensor, "add_", lambda x, y: add_(x.clone(), y))
    torch.testing.assert_close(given, gradients(other))


@pytest.mark.parametrize("name", KINDS)
def test_a_model_computes_the_same_with_channels_last(name: str) -> None:
    student = Student(make_backbone(name), 7).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    wanted = student(images)
    student.to(memory_format=torch.channels_last)
    given = student(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(given, wanted)
    assert given.feature_maps[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["wrn_16_1", "shufflenetv1", "shufflenetv2", "vgg8"])
def test_a_stage_compiles_to_one_graph(name: str) -> None:
    backbone = make_backbone(name).double().eval()
    assert isinstance(backbone, Staged)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    stage = backbone.stages[0]
    torch.testing.assert_close(torch.compile(stage, fullgraph=True, backend="aot_eager")(images), stage(images))


@pytest.mark.parametrize("name", KINDS)
def test_students_of_one_kind_can_share_a_trunk(name: str) -> None:
    students = {key: Student(make_backbone(name), 7).eval() for key in "ab"}
    share_trunk(students)
    images = torch.randn(2, 3, 32, 32)
    trunks = [student.forward_trunk(images) for student in students.values()]
    torch.testing.assert_close(trunks[0], trunks[1], atol=0, rtol=0)
    assert not torch.equal(students["a"](images).logits, students["b"](images).logits)


def test_trunks_that_differ_are_not_shared() -> None:
    students = {key: Student(make_backbone(f"vgg{depth}"), 7) for key, depth in (("a", 8), ("b", 13))}
    with pytest.raises(UserError, match="networks whose first stages are equal"):
        share_trunk(students)
    students = {key: Student(make_backbone(f"resnet56{kind}"), 7) for key, kind in (("a", ""), ("b", "_bottleneck"))}
    with pytest.raises(UserError, match="one depth and width, got ResNet-56 and -56"):
        share_trunk(students)


def test_dropout_of_a_wide_network_works_while_training_only() -> None:
    student = Student(make_backbone({"name": "wrn_16_1", "dropout": 0.5}), 7)
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(student(images).logits, student(images).logits)
    student.eval()
    torch.testing.assert_close(student(images).logits, student(images).logits, atol=0, rtol=0)


def test_stages_of_ones_own_make_a_backbone() -> None:
    stages = [torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.Conv2d(4, 6, 3, 2, 1)]
    shape = observe_shapes(Student(Staged(*stages, width=6), 5), (3, 16, 16))
    assert shape == (5, 6, ((4, 8, 8), (6, 4, 4)))


def test_depths_that_fit_no_network_are_refused() -> None:
    with pytest.raises(UserError, match=r"depth 6n \+ 4 with n >= 1, got 20"):
        WideResNet(20, 8)
    with pytest.raises(UserError, match=r"depth 3n \+ 4 with n >= 1, got 41"):
        DenseNet(41, 12)


def test_what_makes_a_network_the_one_of_its_name_is_no_setting() -> None:
    settings = {
        name: [p.name for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for name, make in MODELS.items()
    }
    assert {name: own for name, own in settings.items() if own} == {f"wrn_{d}_{k}": ["dropout"] for d, k in WIDE}


def test_a_backbone_of_one_stage_is_refused() -> None:
    with pytest.raises(UserError, match="in stages has two or more, got 1"):
        Staged(torch.nn.Conv2d(3, 8, 3), width=8)
