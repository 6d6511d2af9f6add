"""From image files to classes: which files are meant, what is printed, and that ONNX needs no torch."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codistill import UserError, load_student
from codistill.config.schema import DataConfig
from codistill.data.images import resize
from codistill.data.transforms.decode import decode
from codistill.export import Export
from codistill.export.paths import image_paths
from codistill.export.predictor import open_predictor

Exported = Callable[..., Export]

# Whatever imports torch fails at once.
WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors", "datasets", "sklearn", "scipy", "filelock", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from codistill.cli.main import main
main()
"""


def predict(arguments: Sequence[str | Path], standard_input: str = "") -> subprocess.CompletedProcess[str]:
    return codistill_without_torch("predict", arguments, standard_input)


def codistill_without_torch(
    command: str, arguments: Sequence[str | Path], standard_input: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", WITHOUT_TORCH, command, *map(str, arguments)]
    return subprocess.run(words, input=standard_input, env=environment, capture_output=True, text=True)


def test_a_folder_is_predicted_without_torch_and_broken_images_are_named_and_skipped(
    exported: Exported, images: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken [1].png"
    broken.write_bytes(b"no image")
    done = predict([exported("onnx").folder, images, broken, tmp_path / "none.png", "--top", "2"])
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == sorted(str(path) for path in images.rglob("*.png"))
    assert all(line.count(" %") == 2 for line in lines)
    told = done.stderr.splitlines()
    assert len(told) == 2
    assert any(f"{broken}: the image cannot be decoded: it is none of BMP" in line for line in told)
    assert any(f"{tmp_path / 'none.png'}: there is no such file." in line for line in told)


def test_paths_from_standard_input_give_lines_of_json(exported: Exported, images: Path) -> None:
    paths = [str(images / "odd" / "03.png"), str(images / "even" / "02.png")]
    done = predict([exported("onnx").folder, "-", "--json"], "\n".join(paths) + "\n")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["image"] for record in records] == paths
    for record in records:
        assert len(record["classes"]) == 5
        probabilities = [one["probability"] for one in record["classes"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1 + 1e-9


def test_files_folders_patterns_and_lists_name_images_in_order(images: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a[1].png"
    Image.new("RGB", (8, 8)).save(odd)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "empty").mkdir()
    missing: list[tuple[str, str]] = []

    def found(*arguments: str, listed: Sequence[str] = ()) -> list[str]:
        lines = iter([f"{line}\n" for line in listed])
        return list(image_paths(arguments, lines, lambda *told: missing.append(told)))  # type: ignore[arg-type]

    assert found(str(odd)) == found(str(tmp_path)) == [str(odd)]  # a name with brackets; a folder
    assert found(f"{images}/**/0[0-3].png") == [f"{images}/{name}" for name in ("even/00.png", "even/02.png")] + [
        f"{images}/{name}" for name in ("odd/01.png", "odd/03.png")
    ]
    assert found("-", str(odd), listed=["", str(odd)]) == [str(odd)] * 2
    assert missing == []
    assert found(str(tmp_path / "empty"), f"{tmp_path}/*.webp", "nowhere.png") == []
    assert [why for _, why in missing] == ["the folder holds no image", "no file matches", "there is no such file"]


def test_a_run_is_predicted_with_as_its_student_answers(run: Path, images: Path) -> None:
    paths = [str(path) for path in sorted(images.rglob("*.png"))]
    predicted = list(open_predictor(run, "b").predict(paths, top=10))  # more than one batch
    student, facts = load_student(run / "students" / "b.safetensors")
    mean, std = (torch.tensor(facts[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = torch.stack([torch.from_numpy(decode(path)).permute(2, 0, 1) for path in paths]).float() / 255
    with torch.inference_mode():
        expected = student((pixels - mean) / std).logits.softmax(1)
    assert [one.path for one in predicted] == paths
    for one, probabilities in zip(predicted, expected, strict=True):
        assert {int(name): probability for name, probability in one.classes} == pytest.approx(
            dict(enumerate(probabilities.tolist())), abs=1e-5
        )


def test_the_altered_or_missing_student_of_a_run_is_told_with_what_to_do(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    file = copied / "students" / "b.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"not the one in summary.json. Put the run's own file back"):
        open_predictor(copied, "b")
    file.unlink()
    with pytest.raises(UserError, match=r"b.safetensors' is missing. Put the run's own file back"):
        open_predictor(copied, "b")


def test_images_of_other_sizes_are_resized_as_the_data_is(run: Path) -> None:
    predictor = open_predictor(run)
    image = np.random.default_rng(0).integers(0, 256, (20, 13, 3), dtype=np.uint8)
    resized = resize(torch.from_numpy(image)[None], 8)[0].numpy()
    assert np.array_equal(predictor.probabilities([image]), predictor.probabilities([resized]))


def test_every_setting_of_data_that_decides_how_an_image_is_resized_is_known_here() -> None:
    of_rows = {"name", "label", "superclass", "classes", "per_class", "validation", "test", "seed", "cache"}
    of_rows |= {"ignore_splits"}
    assert set(DataConfig.model_fields) - of_rows == {"image_size", "resize"}, (
        "if it changes pixels, an export must state it"
    )


def test_a_program_is_run_only_if_it_is_trusted(exported: Exported) -> None:
    folder = exported("torch").folder
    with pytest.raises(UserError, match=r"PyTorch may run code that such a file holds.*--trust"):
        open_predictor(folder)
    open_predictor(folder, trust=True)


def test_what_is_neither_an_export_nor_a_run_is_told(tmp_path: Path, exported: Exported, run: Path) -> None:
    with pytest.raises(UserError, match="neither an export nor a run folder"):
        open_predictor(tmp_path)
    with pytest.raises(UserError, match="--student is for run folders"):
        open_predictor(exported("safetensors").folder, "a")
    with pytest.raises(UserError, match="Unknown student"):
        open_predictor(run, "c")


def test_a_file_of_an_export_or_a_run_is_told_with_the_folder_to_give(exported: Exported, run: Path) -> None:
    made = exported("safetensors")
    with pytest.raises(UserError, match=rf"is a part of an export\. Give the export's folder: {made.folder}$"):
        open_predictor(made.file)
    for name, which in (("a.safetensors", "a"), ("a.best.safetensors", "a --epoch best")):
        with pytest.raises(UserError, match=rf"a part of a run\. Give the run's folder and --student {which}: {run}$"):
            open_predictor(run / "students" / name)
    with pytest.raises(UserError, match=rf"a part of a run\. Give the run's folder: {run}$"):
        open_predictor(run / "checkpoint.pt")


def test_without_onnxruntime_the_extra_is_named(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = exported("onnx").folder
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime .*pip install 'codistill\[onnx\]'"):
        open_predictor(folder)
