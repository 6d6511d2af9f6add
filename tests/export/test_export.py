"""An export answers as the student it was made from, says how well, and is whole or not there."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd_files import encode, noise
from PIL import Image

from codistill import UserError, load_student
from codistill.data.sources.registry import open_source
from codistill.data.transforms.decode import decode
from codistill.export import Export, export, exporter, read_export
from codistill.export.card import code, eight_bits
from codistill.export.latency import Beside
from codistill.export.predictor import as_input, open_predictor
from codistill.export.runtimes import open_network
from codistill.storage import run_files
from codistill.training.restore import rebuild

Exported = Callable[..., Export]
KINDS = [("safetensors", None), ("torch", None), ("onnx", None), ("onnx", "int8")]


def all_test_images() -> tuple[np.ndarray, np.ndarray]:
    source = open_source("digits")
    labels = source.labels("test")
    pixels = source.pixels("test", np.arange(len(labels)), None).permute(0, 3, 1, 2).numpy()
    return pixels.astype(np.float32) / np.float32(255), labels


@pytest.mark.parametrize(("to", "quantize"), KINDS)
def test_the_stated_accuracy_is_that_of_the_file_on_all_test_images(
    exported: Exported, run: Path, to: str, quantize: str | None
) -> None:
    made = exported(to, "best", quantize)
    pixels, labels = all_test_images()
    logits = open_network(made, trust=True)(pixels)
    right = 100 * float((logits.argmax(axis=1) == labels).mean())
    told = made.facts["test_accuracy"]
    assert told["exported"] == pytest.approx(right)
    assert told["images"] == len(labels)
    assert told["run"] == run_files.read_summary(run)["test_accuracy"]["students"][made.facts["student"]]
    assert f"**{right:.2f} %**" in (made.folder / "README.md").read_text(encoding="utf-8")
    assert right > 30  # chance is 10


@pytest.mark.parametrize("to", ["safetensors", "torch", "onnx"])
def test_the_file_answers_as_the_student_does(exported: Exported, run: Path, to: str) -> None:
    made = exported(to)
    pixels, _ = all_test_images()
    student, facts = load_student(run / "students" / f"{made.facts['student']}.safetensors")
    mean, std = (torch.tensor(facts[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = student((torch.from_numpy(pixels) - mean) / std).logits.numpy()
    answer = open_network(made, trust=True)
    for count in (1, 5, len(pixels)):  # batches of any size
        np.testing.assert_allclose(answer(pixels[:count]), expected[:count], atol=1e-4)
    parity = made.facts["parity"]
    assert parity["largest_difference"] < 1e-4 < parity["allowed_difference"]
    assert parity["equal_answers"] == 100


def test_what_pytorchs_exporter_logs_about_itself_is_not_shown(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without torchvision it warns of each operator that this would add."""
    monkeypatch.setitem(sys.modules, "torchvision", None)
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger = logging.getLogger("torch.onnx")
    logger.addHandler(handler)
    try:
        export(run, to="onnx", out=tmp_path / "made")
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said] == []


def test_eight_bits_are_smaller_and_their_cost_is_stated(exported: Exported) -> None:
    full, small = exported("onnx"), exported("onnx", quantize="int8")
    assert small.facts["bytes"] < full.facts["bytes"] / 2
    accuracy, parity = small.facts["test_accuracy"], small.facts["parity"]
    assert 80 < parity["equal_answers"] <= 100
    assert parity["largest_difference"] > full.facts["parity"]["largest_difference"]
    assert min(small.facts["latency"].values()) > 0
    assert accuracy["images"] == 599
    assert eight_bits(small.facts) in (small.folder / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in small.folder.iterdir()) == ["README.md", "export.json", "model.onnx"]


@pytest.mark.parametrize(
    ("exported_accuracy", "words"),
    [
        (70.0, "test accuracy is 2.00 points lower than in full precision"),
        (74.0, "test accuracy is 2.00 points higher than in full precision"),
        (72.004, "test accuracy is the same as in full precision"),
    ],
)
def test_a_change_of_accuracy_by_8_bits_is_told_with_its_direction(exported_accuracy: float, words: str) -> None:
    assert words in eight_bits({"test_accuracy": {"exported": exported_accuracy, "pytorch": 72.0}})


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ((1.7, 2.1), "slower than full precision: 0.38 ms for one image, 0.21 ms in full precision"),
        ((0.5, 0.9), "faster than"),
        ((0.9, 1.2), "about as fast as"),
    ],
)
def test_8_bits_are_called_slower_or_faster_only_if_they_were_so_in_every_round(
    ratios: tuple[float, float], words: str
) -> None:
    latency = Beside(0.38, 0.21, *ratios)._asdict()
    assert f"8 bits are {words}" in eight_bits({"test_accuracy": {"exported": 1, "pytorch": 1}, "latency": latency})


@pytest.mark.parametrize(("to", "quantize"), KINDS)
def test_the_code_in_the_card_prints_the_class_that_predict_gives(
    exported: Exported, images: Path, tmp_path: Path, to: str, quantize: str | None
) -> None:
    made = exported(to, "best", quantize)
    folder = shutil.copytree(made.folder, tmp_path / "export")
    shutil.copy(images / "even" / "00.png", folder / "image.png")
    assert f"```python\n{code(made.facts)}```" in (folder / "README.md").read_text(encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code(made.facts)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (prediction,) = open_predictor(folder, trust=True).predict([str(folder / "image.png")])
    assert done.stdout.strip() == prediction.classes[0][0]


def _photos() -> dict[str, bytes]:
    exif, photo = Image.Exif(), noise()
    exif[0x0112] = 6  # to be turned to the right
    clear = photo.copy()
    clear.putalpha(noise(1).convert("L"))
    sixteen = np.random.default_rng(0).integers(0, 2**16, (8, 8), dtype=np.uint16)
    return {
        "upright": encode(photo),
        "turned by EXIF, JPEG": encode(photo, "JPEG", exif=exif),
        "turned by EXIF, 16 bits": encode(Image.fromarray(sixteen), exif=exif),
        "transparent": encode(clear),
        "a transparent colour": encode(photo.quantize(8), transparency=3),
        "16 bits, PNG": encode(Image.fromarray(sixteen)),
        "16 bits, TIFF": encode(Image.fromarray(sixteen), "TIFF"),
        "grey": encode(photo.convert("L")),
        "grey with alpha": encode(clear.convert("LA")),
        "palette with alpha": encode(clear.convert("RGB").quantize(8).convert("PA"), "TIFF"),
        "an animation": encode(photo, "WEBP", lossless=True, save_all=True, append_images=[noise(2)]),
        "a damaged colour profile": encode(photo, "JPEG", icc_profile=b"none"),
    }


@pytest.mark.parametrize(("kind", "content"), _photos().items())
@pytest.mark.parametrize("how", ["squash", "crop", "pad"])
def test_the_code_in_the_card_sees_the_pixels_that_predict_sees(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, content: bytes, how: str
) -> None:
    made = exported("safetensors")
    folder = shutil.copytree(made.folder, tmp_path / "export")
    (folder / "image.png").write_bytes(content)
    monkeypatch.chdir(folder)
    said: dict[str, Any] = {}
    exec(code({**made.facts, "preprocessing": {**made.facts["preprocessing"], "resize": how}}), said)
    seen = as_input([decode(str(folder / "image.png"))], made.image_size, how)
    np.testing.assert_array_equal(said["pixels"], seen, err_msg=kind)


def test_weights_are_a_students_alone(exported: Exported, run: Path) -> None:
    made = exported("safetensors")
    ours, facts = load_student(made.file)
    theirs, _ = load_student(run / "students" / f"{made.facts['student']}.safetensors")
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    assert facts["class_names"] == made.class_names
    model = json.loads((made.folder / "model.json").read_text())
    assert model == {"library": "codistill", "name": "resnet8", "settings": {}, "num_classes": 10}


@pytest.mark.parametrize(("to", "quantize"), KINDS)
def test_an_export_knows_no_paths_of_the_machine_that_made_it(
    exported: Exported, run: Path, to: str, quantize: str | None
) -> None:
    root = str(Path(exporter.__file__).parents[2]).encode()
    for path in exported(to, "best", quantize).folder.iterdir():
        content = path.read_bytes()
        assert root not in content, path.name
        assert str(run.parent).encode() not in content, path.name


def test_the_ensemble_and_the_cpm_answer_as_evaluation_does(exported: Exported, run: Path) -> None:
    accuracy = run_files.read_summary(run)["test_accuracy"]
    ensemble, teacher = exported("onnx", "ensemble"), exported("torch", "cpm")
    assert ensemble.facts["test_accuracy"]["exported"] == pytest.approx(accuracy["ensemble"])
    assert teacher.facts["test_accuracy"]["exported"] == pytest.approx(accuracy["teacher"])
    cohort = rebuild(run, "cpu")[0].cohort.eval()
    pixels, _ = all_test_images()
    mean, std = (torch.tensor(ensemble.facts["preprocessing"][key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        said = cohort.predict((torch.from_numpy(pixels[:20]) - mean) / std)
    mean_probability = torch.stack([said["a"].softmax(1), said["b"].softmax(1)]).mean(0)
    of_file = torch.from_numpy(open_network(ensemble)(pixels[:20])).softmax(1)
    torch.testing.assert_close(of_file, mean_probability, atol=1e-5, rtol=0)
    answer = open_network(teacher, trust=True)(pixels[:20])
    np.testing.assert_allclose(answer, said["cpm"].numpy(), atol=1e-4)


def test_a_file_that_answers_otherwise_is_an_error_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tampered(made: Export, trust: bool) -> Callable[[np.ndarray], np.ndarray]:
        answer = open_network(made, trust=trust)
        return lambda pixels: answer(pixels) + np.float32(0.1)

    monkeypatch.setattr(exporter, "open_network", tampered)
    with pytest.raises(UserError, match=r"does not answer as the network does: logits differ by 0.1 where .* allowed"):
        export(run, out=tmp_path / "export")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_replaced_only_when_told_and_only_by_a_whole_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    export(run, "a", out=folder)
    with pytest.raises(UserError, match=r"already holds an export.*--overwrite"):
        export(run, "b", out=folder)

    def killed(*_: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exporter, "card", killed)
        with pytest.raises(KeyboardInterrupt):
            export(run, "b", out=folder, overwrite=True)
    assert read_export(folder).facts["student"] == "a"
    assert export(run, "b", out=folder, overwrite=True).facts["student"] == "b"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_something_else_is_never_replaced(run: Path, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="is not empty and holds no export"):
        export(run, out=tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"to": "onxx"}, "Unknown format 'onxx'. Did you mean 'onnx'"),
        ({"to": "torch", "quantize": "int8"}, "goes with --to onnx"),
        ({"quantize": "int8"}, "goes with --to onnx"),
        ({"to": "onnx", "quantize": "int4"}, "Unknown --quantize 'int4'"),
        ({"student": "ensemble"}, "Weights alone are those of one student, not of 'ensemble'"),
        ({"student": "bb"}, "Unknown student of run "),
        ({"student": "bb"}, "Choices: a, b, best. An ensemble or a teacher goes with --to torch or --to onnx."),
        ({"student": "c", "to": "torch"}, "Unknown network 'c'. Choices: a, b, best, ensemble, cpm"),
    ],
    ids=str,
)
def test_what_cannot_be_exported_is_refused(run: Path, tmp_path: Path, arguments: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as caught:
        export(run, out=tmp_path / "export", **arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert not (tmp_path / "export").exists()


def test_without_onnx_the_extra_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'codistill\[onnx\]'"):
        export(run, to="onnx", out=tmp_path / "export")


def test_a_damaged_run_and_an_unfinished_one_are_named(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    path = copy / "students" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"a.safetensors' was altered"):
        export(copy, "a", out=tmp_path / "export")
    (copy / "summary.json").unlink()
    with pytest.raises(UserError, match=r"has no summary.json. The run is not finished"):
        export(copy, out=tmp_path / "export")


@pytest.mark.parametrize("to", ["safetensors", "torch", "onnx"])
@pytest.mark.parametrize("key", ["class_names", "mean", "resize"])
def test_an_export_whose_description_is_not_that_of_its_network_is_refused(
    exported: Exported, tmp_path: Path, to: str, key: str
) -> None:
    folder = shutil.copytree(exported(to).folder, tmp_path / "export")
    assert read_export(folder).class_names == list("0123456789")
    facts = json.loads((folder / "export.json").read_text())
    if key == "class_names":
        facts[key] = [*"1023456789"]
    else:
        facts["preprocessing"][key] = {"mean": [0.1, 0.1, 0.1], "resize": "crop"}[key]
    (folder / "export.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"export.json' was altered: its class names, image size or preprocessing"):
        read_export(folder)
    del facts["input_sha256"]  # as earlier exports are
    (folder / "export.json").write_text(json.dumps(facts))
    assert read_export(folder).facts == facts


def test_an_export_that_was_altered_is_named(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported("safetensors").folder, tmp_path / "export")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"model.safetensors' was altered"):
        read_export(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"model.safetensors' is missing"):
        read_export(folder)
    (folder / "export.json").write_text('{"format": "safetensors"}')
    with pytest.raises(UserError, match=r"export.json' is damaged: it lacks sha256, class_names"):
        read_export(folder)
