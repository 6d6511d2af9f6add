"""Libraries that are missing, or there and cannot be imported: what is said of them, and what the doctor lists."""

import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from codistill.cli.main import app
from codistill.errors import UserError
from codistill.errors.libraries import EXTRAS, REQUIRED, explain, fault, fault_behind, importing
from codistill.experiments.environment import describe

OF_TORCHVISION = 'raise RuntimeError("operator torchvision::nms does not exist")\n'


@pytest.fixture
def broken_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A timm that is installed and cannot be imported."""
    about = tmp_path / "timm-9.8.7.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 9.8.7\n")
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text(OF_TORCHVISION)
    for name in [name for name in sys.modules if name.split(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "timm" / "__init__.py"


def test_every_dependency_is_known_with_its_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        return {requirement.split(">=")[0] for requirement in requirements}

    extras = project["optional-dependencies"]
    assert set(REQUIRED) == names(project["dependencies"])
    for extra, packages in EXTRAS.items():
        assert set(packages) == names(extras[extra]) - (set() if extra == "distributed" else {"accelerate"})
    assert set(extras) - set(EXTRAS) == {"docs", "dev"}


def test_what_can_be_imported_has_no_fault() -> None:
    assert [package for package in REQUIRED if fault(package)] == []


def test_a_torchvision_that_does_not_fit_is_told_with_the_command_that_mends_it(broken_timm: Path) -> None:
    found = fault("timm")
    assert found is not None
    assert found.problem == "it cannot be imported: operator torchvision::nms does not exist"
    release, _, index = torch.__version__.partition("+")
    assert f"pip install --force-reinstall torch=={release} torchvision" in found.mend
    assert not index or found.mend.endswith(f"--index-url https://download.pytorch.org/whl/{index}")


def test_what_another_package_lacks_is_named(broken_timm: Path) -> None:
    broken_timm.write_text("import there_is_no_such_module\n")
    assert str(fault("timm")) == (
        "timm (it needs there_is_no_such_module, which is not installed): pip install there_is_no_such_module"
    )


def test_what_fails_otherwise_is_to_be_installed_again() -> None:
    error = ImportError("libssl.so.9: cannot open shared object file.\nmore")
    assert str(explain("onnxruntime", error)) == (
        "onnxruntime (it cannot be imported: libssl.so.9: cannot open shared object file): "
        "pip install --force-reinstall --no-deps onnxruntime"
    )


def test_a_missing_package_of_an_extra_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    words = r"^A page needs jinja2 \(not installed\): pip install 'codistill\[report\]'$"
    with pytest.raises(UserError, match=words), importing("matplotlib", "A page"):
        import_module("jinja2")


def test_an_error_of_no_library_is_not_taken_for_one() -> None:
    assert fault_behind(ModuleNotFoundError("No module named 'mine'", name="mine")) is None
    assert fault_behind(ImportError("cannot import name 'x' from 'codistill'")) is None


def test_the_doctor_imports_what_it_reports(broken_timm: Path) -> None:
    found = describe()
    rows = dict(found.rows)
    assert rows["timm"] == "9.8.7, but it cannot be imported: operator torchvision::nms does not exist"
    assert rows["torch"] == torch.__version__
    assert [one.package for one in found.faults] == ["timm"]
    assert found.complete  # only some students need it
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == 0
    assert "Missing or faulty: timm. To mend it: torchvision was built for another version of PyTorch" in told.stderr


def test_devices_threads_and_folders_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("no folder")
    rows = dict(describe().rows)
    assert "threads" in rows["CPU"]
    assert "NOT writable" in rows["runs"]
    (tmp_path / "runs").unlink()
    assert f"{tmp_path}/runs: writable, " in dict(describe().rows)["runs"]
