"""Students that start from one of an earlier run: its features, and a classifier of their own."""

import json
from pathlib import Path

import pytest
import torch
from cohorts import Silent
from safetensors.torch import save_file

from codistill import Student, UserError, load_student
from codistill.config.schema import make_config
from codistill.models import Model, as_it_begins, begins_alike, make_backbone
from codistill.models.digest import digest_of
from codistill.models.pretrained import start_from
from codistill.training import restore, trainer


def saved(path: Path, model: Model, **facts: object) -> Path:
    """The file of a student of five classes, of images of 32 pixels."""
    student = Student(make_backbone(model), num_classes=5)
    told = {"model": model, "class_names": list("abcde"), "image_size": [32, 32], "mean": [0.5] * 3, "std": [0.2] * 3}
    save_file(student.state_dict(), path, {key: json.dumps(value) for key, value in {**told, **facts}.items()})
    return path


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("model", ["resnet8", "timm/test_resnet"])
def test_its_backbone_has_the_weights_of_the_file_and_no_other_number_changes(model: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", model)
    earlier, _ = load_student(file)
    backbone = make_backbone({"name": model, "pretrained": str(file)})
    torch.testing.assert_close(backbone.state_dict(), earlier.backbone.state_dict(), atol=0, rtol=0)
    torch.manual_seed(0)
    make_backbone(model)
    without = torch.rand(())
    torch.manual_seed(0)
    make_backbone({"name": model, "pretrained": str(file)})
    assert torch.rand(()) == without


def test_a_run_starts_from_it_and_needs_it_no_more_when_it_has_begun(tmp_path: Path) -> None:
    model = {"name": "resnet8", "pretrained": str(saved(tmp_path / "a.safetensors", "resnet8"))}
    config = make_config(
        {
            "students": {"a": model, "b": "resnet8"},
            "data": {"name": "digits", "per_class": 4},
            "batch_size": 20,
            "epochs": 1,
            "optimizer": {"lr": 1e-6, "warmup_epochs": 0, "weight_decay": 0},
        }
    )
    assert config.students["a"] == model
    digest = digest_of(model["pretrained"])
    summary = trainer.train(config, tmp_path / "run", Silent())
    earlier, _ = load_student(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").unlink()
    student, facts = load_student(tmp_path / "run" / "students" / "a.safetensors")
    assert facts["model"] == {**model, "sha256": digest}
    assert len(facts["class_names"]) == 10
    first, now = (next(of.backbone.parameters()) for of in (earlier, student))
    assert 0 < (first - now).abs().max() < 1e-3, "hardly moved by so small a rate"
    accuracy, _ = restore.evaluate_run(tmp_path / "run")
    assert accuracy._asdict() == summary["test_accuracy"]


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("model", ["resnet8", "timm/test_resnet"])
def test_who_trains_it_again_begins_with_the_same_file_or_is_told(model: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", model)
    begun = as_it_begins({"name": model, "pretrained": str(file)})
    assert as_it_begins(begun) == begun
    first = make_backbone(begun).state_dict()
    torch.testing.assert_close(first, load_student(file)[0].backbone.state_dict(), atol=0, rtol=0)
    saved(file, model)  # with other weights
    with pytest.raises(UserError, match=r"a.safetensors' is not the file that 'sha256' tells: it should begin with "):
        make_backbone(begun)
    file.unlink()
    with pytest.raises(UserError, match=r"There is no file '.*a.safetensors'"):
        make_backbone(begun)
    make_backbone(begun, pretrained=False)  # other weights will be loaded


def test_a_model_that_begins_with_no_file_stays_as_it_is(tmp_path: Path) -> None:
    file = str(saved(tmp_path / "a.safetensors", "resnet8"))
    hub, own = {"name": "timm/resnet18", "pretrained": True}, {"name": "my.nets:make", "pretrained": file}
    for model in ("resnet8", hub, own):
        assert as_it_begins(model) == model


def test_models_begin_alike_if_no_known_digest_differs() -> None:
    model = {"name": "resnet8", "pretrained": "a.safetensors"}
    first, second = ({**model, "sha256": digit * 64} for digit in "01")
    assert begins_alike(first, first)
    assert begins_alike(model, first)
    assert begins_alike("resnet8", "resnet8")
    assert not begins_alike(first, second)
    assert not begins_alike(first, "resnet8")
    own = {"name": "my.nets:make", "sha256": "0"}
    assert begins_alike(own, own)
    assert not begins_alike(own, "my.nets:make"), "of a user's function it is a setting as any other"


@pytest.mark.parametrize("model", ["resnet8", "timm/resnet18"])
def test_a_digest_is_64_digits_and_goes_with_its_file(model: str) -> None:
    def kept(**settings: object) -> Model:
        return make_config({"students": {"a": {"name": model, **settings}, "b": "resnet8"}}).students["a"]

    with pytest.raises(UserError, match=r"should be 64 hexadecimal digits, got '0f'"):
        kept(pretrained="a.safetensors", sha256="0f")
    begins = {"name": model, "pretrained": "a.safetensors"}
    assert kept(pretrained="a.safetensors", sha256="0F" * 32) == {**begins, "sha256": "0f" * 32}
    for nothing in (None, False):
        assert kept(pretrained="a.safetensors", sha256=nothing) == begins
    without = kept(pretrained=False, sha256="0f" * 32)  # the configuration of a run, with another origin
    assert without == kept(pretrained=False)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The file '.*' cannot be read: "):
        digest_of(str(tmp_path))


def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", "resnet14")
    with pytest.raises(UserError, match=r"a.safetensors' do not fit 'resnet8' .* a resnet14's: unexpected"):
        make_backbone({"name": "resnet8", "pretrained": str(file)})
    with pytest.raises(UserError, match=r"There is no file 'nowhere.safetensors'"):
        make_backbone({"name": "resnet8", "pretrained": "nowhere.safetensors"})
    save_file(make_backbone("resnet8").state_dict(), file)
    with pytest.raises(UserError, match=r"a.safetensors' is not the file of a student: it does not tell model, class_"):
        start_from(str(file), make_backbone("resnet8"), "resnet8")


@pytest.mark.parametrize("given", [True, 3, ""])
def test_what_names_no_file_is_refused_before_anything_is_built(given: object) -> None:
    with pytest.raises(UserError, match=r"Model 'resnet8' has no pretrained weights .*got .*Models of timm have"):
        make_config({"students": [{"name": "resnet8", "pretrained": given}, "resnet8"]})


def test_a_wrong_setting_is_told_that_there_is_this_one() -> None:
    told = r"'pretraind'. Did you mean 'pretrained'\? Choices: dropout, pretrained, sha256"
    with pytest.raises(UserError, match=told):
        make_config({"students": [{"name": "wrn_16_2", "pretraind": "x"}, "resnet8"]})


def test_false_is_as_if_nothing_were_said() -> None:
    assert make_config({"students": [{"name": "resnet8", "pretrained": False}, "resnet14"]}).students == {
        "resnet8": "resnet8",
        "resnet14": "resnet14",
    }
