"""Run an example as its reader would: ``python run_example.py PATH [ARGUMENTS]``, of a notebook the cells in order.

Cells are executed in one namespace, without a Jupyter kernel: the notebook has no magics, and this needs no other
packages and starts no server. Where timm can be imported only with help (see below), it gets it.
"""

import json
import runpy
import sys
from pathlib import Path


def declare_missing_operators() -> None:
    """A torchvision built for CUDA is imported beside a PyTorch for CPUs only if two of its operators are declared."""
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        sys.modules["torchvision_operators"] = library  # type: ignore[assignment] # they last as long as it does


def run_notebook(path: Path) -> None:
    scope: dict[str, object] = {"__name__": "__main__"}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), scope)


if __name__ == "__main__":
    del sys.argv[0]
    path = Path(sys.argv[0])
    if "import timm" in path.read_text(encoding="utf-8"):
        declare_missing_operators()
    sys.path.insert(0, str(path.parent))
    if path.suffix == ".ipynb":
        run_notebook(path)
    else:
        runpy.run_path(str(path), run_name="__main__")
