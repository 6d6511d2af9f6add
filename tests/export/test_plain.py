"""Weights under other names are the same network; a student's own change of its images joins the normalisation."""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from codistill import Student
from codistill.export.card import code
from codistill.export.plain import in_one_step, plain, timm_weights
from codistill.export.reader import Export
from codistill.export.torch_runtime import weights as open_weights
from codistill.export.write import write_safetensors
from codistill.models.timm_models import make_timm

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_a_student_of_timm_becomes_what_timm_itself_makes(timm: ModuleType, tmp_path: Path, name: str) -> None:
    settings = {"img_size": [32, 32]} if name.startswith("vit") else {}
    torch.manual_seed(0)
    student = Student(make_timm(f"timm/{name}", {}, (32, 32), pretrained=False), 7).eval()
    made = plain(
        student, {"name": f"timm/{name}", "pretrained": "weights.safetensors", "sha256": "0" * 64}, (32, 32), MEAN, STD
    )
    assert made.model == {"library": "timm", "name": name, "settings": settings, "num_classes": 7}
    assert (made.mean, made.std) == (MEAN, STD)

    network = timm.create_model(name, num_classes=7, **settings).eval()
    network.load_state_dict(made.weights)
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    with torch.inference_mode():
        expected = student((pixels - mean) / std).logits
        torch.testing.assert_close(network((pixels - mean) / std), expected)

    write_safetensors(tmp_path, made, {})
    facts = {
        "preprocessing": {"resize": "squash", "mean": MEAN, "std": STD},
        "class_names": list("abcdefg"),
        "format": "safetensors",
    }
    export = Export(tmp_path, facts)
    torch.testing.assert_close(torch.from_numpy(open_weights(export)(pixels.numpy())), expected)
    assert load_file(export.file).keys() == network.state_dict().keys()
    assert json.loads((tmp_path / "model.json").read_text())["name"] == name
    assert "timm.create_model" in code({**facts, "network": made.model})


def test_only_the_names_of_backbone_and_classifier_change() -> None:
    one = torch.ones(1)
    given = {"backbone.model.stem.weight": one, "classifier.weight": one, "classifier.bias": one, "input_scale": one}
    assert set(timm_weights(given, "head.fc")) == {"stem.weight", "head.fc.weight", "head.fc.bias"}


def test_two_normalisations_in_one_step_are_both_of_them() -> None:
    scale, shift = [0.9, 1.1, 2.0], [0.1, -0.2, 0.3]
    mean, std = in_one_step(MEAN, STD, scale, shift)
    pixels = torch.rand(5, 3, dtype=torch.float64)
    as_tensor = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    twice = (pixels - as_tensor(MEAN)) / as_tensor(STD) * as_tensor(scale) + as_tensor(shift)
    torch.testing.assert_close((pixels - as_tensor(mean)) / as_tensor(std), twice)


def test_a_model_of_timm_that_was_changed_keeps_our_names() -> None:
    class Backbone(nn.Linear):
        head_hidden_size = 3
        pretrained_cfg = SimpleNamespace()

    student = Student(Backbone(3, 3), 2)
    made = plain(student, {"name": "timm/resnet10t", "full_resolution_stem": True}, (8, 8), MEAN, STD)
    assert made.model["library"] == "codistill"
    assert made.weights.keys() == student.state_dict().keys()
