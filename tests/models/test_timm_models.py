"""Models of timm as students: built, pretrained, normalised as they expect, trained, saved and read again."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from cohorts import Silent
from interrupted import killed_after_an_epoch
from safetensors.torch import save_file

from codistill import Student, UserError, load_student, observe_shapes
from codistill.config.schema import make_config
from codistill.models import make_backbone
from codistill.models.digest import digest_of
from codistill.training import restore, trainer
from codistill.training.runtime import check_synchronisable

pytestmark = pytest.mark.usefixtures("timm")
SMALLEST = "timm/test_resnet"  # 0.37 M parameters
VIT = "timm/test_vit"  # 0.3 M, for images of 160 pixels


@pytest.fixture
def weights(timm: ModuleType, tmp_path: Path) -> Path:
    """Weights of the smallest model with a classifier, as timm's pages on the hub have them."""
    torch.manual_seed(7)
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return path


def test_a_convolutional_model_gives_a_map_of_every_stage_and_its_own_embedding(timm: ModuleType) -> None:
    student = Student(make_backbone(SMALLEST), 5).eval()
    images = torch.randn(2, 3, 32, 32)
    output = student(images)
    sizes = [tuple(m.shape[1:]) for m in output.feature_maps]
    assert sizes == [(32, 16, 16), (32, 8, 8), (48, 4, 4), (192, 2, 2), (96, 1, 1)]
    whole = timm.create_model("test_resnet", num_classes=0).eval()
    whole.load_state_dict(student.backbone.model.state_dict())
    torch.testing.assert_close(output.embedding, whole(images))


def test_a_transformer_is_made_for_the_size_of_the_images_and_shows_four_of_its_blocks_as_maps(
    timm: ModuleType,
) -> None:
    student = Student(make_backbone("timm/vit_tiny_patch16_224", (32, 48)), 5).eval()
    assert observe_shapes(student, (3, 32, 48)) == (5, 192, ((192, 2, 3),) * 4)
    images = torch.randn(2, 3, 32, 48)
    _, maps = student.backbone.model.forward_intermediates(images, output_fmt="NCHW")
    for given, wanted in zip(student(images).feature_maps, maps[2::3], strict=True):
        torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("timm/resnet10x", r"has no model 'resnet10x'. Did you mean timm/resnet10t"),
        ("timm/hf-hub:a/b", "has no model 'hf-hub:a/b'"),
        ("timm/resnet18.a9_in9k", r"Invalid pretrained tag.*There are: .*resnet18.a1_in1k"),
        ({"name": "timm/resnet18", "depth": 3}, "'timm/resnet18' cannot be made so: .*'depth'"),
        ({"name": "timm/resnet18", "num_classes": 3}, "'num_classes' is no setting of 'timm/resnet18'"),
        ({"name": "timm/resnet18", "checkpoint_path": "x"}, "name the file with 'pretrained'"),
        ({"name": VIT, "full_resolution_stem": True}, "has a kernel of 16 and stride 16"),
    ],
)
def test_what_timm_does_not_have_is_refused_by_name(model: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_backbone(model)


def test_a_model_of_timm_without_its_prefix_is_suggested_with_it(timm: ModuleType) -> None:
    with pytest.raises(UserError, match=r"'mobilenetv3_small_050'\. Did you mean 'timm/mobilenetv3_small_050'\?"):
        make_backbone("mobilenetv3_small_050")
    with pytest.raises(UserError, match=r"'mobilenetv3_smal_050'. Did you mean timm/mobilenetv3_small_050"):
        make_backbone("timm/mobilenetv3_smal_050")


def test_a_model_of_timm_is_no_misspelt_one_of_ours_where_timm_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError) as caught:
        make_backbone("mobilenetv3_small_050")
    assert "Did you mean" not in str(caught.value)
    assert "timm/NAME, such as timm/mobilenetv3_small_050 if timm has it" in str(caught.value)


def test_without_timm_one_reads_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"'timm/resnet18' needs timm .*pip install 'codistill\[timm\]'"):
        make_backbone("timm/resnet18")


def test_a_torchvision_that_does_not_fit_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "timm":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(UserError, match=r"torchvision::nms does not exist\): .* for another version of PyTorch"):
        make_backbone("timm/resnet18")


def test_weights_are_read_from_a_file_with_a_classifier_or_without(weights: Path, timm: ModuleType) -> None:
    backbone = make_backbone({"name": SMALLEST, "pretrained": str(weights)})
    torch.manual_seed(7)
    wanted = timm.create_model("test_resnet").state_dict()
    own = backbone.model.state_dict()
    assert set(wanted) - set(own) == {"fc.weight", "fc.bias"}
    torch.testing.assert_close(own, {key: wanted[key] for key in own}, atol=0, rtol=0)
    save_file(own, weights.with_name("backbone.safetensors"))
    again = make_backbone({"name": SMALLEST, "pretrained": str(weights.with_name("backbone.safetensors"))})
    torch.testing.assert_close(again.model.state_dict(), own, atol=0, rtol=0)


def test_a_file_that_does_not_hold_the_models_weights_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be loaded into 'timm/resnet10t'|are not those of 'timm/resnet10t'"):
        make_backbone({"name": "timm/resnet10t", "pretrained": str(weights)})
    save_file({"x": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other.safetensors' are not those of 'timm/test_resnet': .* lacks .* .conv1"):
        make_backbone({"name": SMALLEST, "pretrained": str(tmp_path / "other.safetensors")})
    with pytest.raises(UserError, match=r"nowhere.safetensors' cannot be loaded into 'timm/test_resnet': .*"):
        make_backbone({"name": SMALLEST, "pretrained": "nowhere.safetensors"})


def test_without_a_connection_one_reads_which_file_to_bring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot be had from timm/resnet10t.c3_in1k: .*name it: pretrained: FILE"):
        make_backbone({"name": "timm/resnet10t", "pretrained": True, "cache_dir": str(tmp_path)})


def test_a_pretrained_student_sees_images_normalised_as_its_weights_expect(weights: Path) -> None:
    overlay = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    backbone = make_backbone({"name": SMALLEST, "pretrained": str(weights), "pretrained_cfg_overlay": overlay})
    mean, std = [0.1, 0.2, 0.3], [0.25, 0.5, 0.75]
    student = Student(backbone, 5, (mean, std)).eval()
    pixels = torch.rand(2, 3, 32, 32)

    def by_hand(mean: list[float], std: list[float]) -> torch.Tensor:
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    wanted = backbone.model(by_hand(overlay["mean"], overlay["std"]))
    torch.testing.assert_close(student(by_hand(mean, std)).embedding, wanted)
    assert {"input_scale", "input_shift"} <= set(student.state_dict())


def test_a_student_from_scratch_takes_images_as_they_are() -> None:
    student = Student(make_backbone(SMALLEST), 5, ([0.1] * 3, [0.2] * 3))
    assert student.input_scale is None
    assert not [key for key in student.state_dict() if key.startswith("input_")]


def a_run(path: Path, *students: Any, **more: Any) -> tuple[Any, dict[str, Any]]:
    given = {
        "students": list(students),
        "tasks": "none",
        "method": "dml",
        "data": {"name": "digits", "per_class": 4, "image_size": 32},
        "batch_size": 20,
        "epochs": 2,
        **more,
    }
    config = make_config(given)
    return config, trainer.train(config, path, Silent())


def test_a_run_with_pretrained_students_is_evaluated_and_loaded_without_their_weights_file(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained = {"name": SMALLEST, "pretrained": str(weights)}
    config, summary = a_run(tmp_path / "run", pretrained, VIT, "resnet8")
    assert list(config.students) == ["test_resnet", "test_vit", "resnet8"]
    kept = restore.read_run_config(tmp_path / "run").students
    assert kept == {**config.students, "test_resnet": {**pretrained, "sha256": digest_of(str(weights))}}
    weights.unlink()
    accuracy, _ = restore.evaluate_run(tmp_path / "run")
    assert accuracy._asdict() == summary["test_accuracy"]
    student, facts = load_student(tmp_path / "run" / "students" / "test_resnet.safetensors")
    assert facts["model"] == kept["test_resnet"]
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.pt")["cohort"]
    assert student.input_scale is not None
    torch.testing.assert_close(student.input_scale, checkpoint["students.test_resnet.input_scale"], atol=0, rtol=0)


def test_a_run_goes_on_without_its_students_weights_file(weights: Path, tmp_path: Path) -> None:
    data = {"name": "digits", "per_class": 4}
    students = ({"name": SMALLEST, "pretrained": str(weights)}, "resnet8")
    config, _ = a_run(tmp_path / "whole", *students, data=data)
    with killed_after_an_epoch():
        trainer.train(config, tmp_path / "resumed", Silent())
    weights.unlink()
    trainer.train(config, tmp_path / "resumed", Silent(), resume=True)
    whole, resumed = (torch.load(tmp_path / name / "checkpoint.pt")["cohort"] for name in ("whole", "resumed"))
    torch.testing.assert_close(resumed, whole, atol=0, rtol=0)
    assert "sha256" in restore.read_run_config(tmp_path / "resumed").students["test_resnet"]


def test_normalisation_with_an_activation_is_not_synchronised_over_processes() -> None:
    check_synchronisable(make_backbone(SMALLEST))
    with pytest.raises(UserError, match=r"sync_batchnorm=true .* 'model.bn1': a BatchNormAct2d does more"):
        check_synchronisable(make_backbone("timm/lcnet_035"))


def test_the_complete_configuration_trains_the_same_again(tmp_path: Path) -> None:
    model = {"name": SMALLEST, "full_resolution_stem": True}
    a_run(tmp_path / "first", model, "resnet8", epochs=1, data={"name": "digits", "per_class": 4})
    trainer.train(restore.read_run_config(tmp_path / "first"), tmp_path / "second", Silent())
    one, other = (torch.load(tmp_path / name / "checkpoint.pt")["cohort"] for name in ("first", "second"))
    torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_the_full_resolution_stem_keeps_every_pixel_and_the_weights_shapes() -> None:
    plain, fine = (make_backbone({"name": "timm/resnet10t", **more}) for more in ({}, {"full_resolution_stem": True}))
    shapes = [observe_shapes(Student(backbone, 5), (3, 32, 32)) for backbone in (plain, fine)]
    assert [m[1] for m in shapes[0].feature_maps] == [16, 8, 4, 2, 1]
    assert [m[1] for m in shapes[1].feature_maps] == [32, 32, 16, 8, 4]
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in fine.state_dict().items()}
