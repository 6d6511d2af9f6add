"""An exported file as a function from pixels to logits, by whatever runs its format. No torch until it is needed."""

from pathlib import Path
from typing import Any

from codistill.errors import UserError, first_line
from codistill.errors.libraries import importing
from codistill.export.reader import Export
from codistill.export.types import Answer, Floats


def open_network(export: Export, *, trust: bool = False, threads: int | None = None) -> Answer:
    """Raises UserError for a file that cannot be run here.

    threads: of one call; None for as many as the runtime takes.
    trust: needed for ``model.pt2``, which is a program (``torch.export.load`` runs code that one may hold), and for
    weights of a user's own factory, which is run.
    """
    if export.format == "onnx":
        return open_onnx(export.file, threads)
    with importing("torch", f"An export to {export.format}"):
        from codistill.export import torch_runtime  # not before torch is needed

    torch_runtime.take_threads(threads)
    if export.format == "safetensors":
        return torch_runtime.weights(export, trust=trust)
    if not trust:
        raise UserError(
            f"'{export.file}' is a program, and PyTorch may run code that such a file holds. If you wrote it or trust "
            "who did, add --trust. Exports to onnx and safetensors hold no code."
        )
    return torch_runtime.program(export.file)


def open_onnx(file: Path, threads: int | None = None) -> Answer:
    """Raises UserError for a file that onnxruntime cannot run. The file is read whole: it may go afterwards."""
    with importing("onnxruntime", "An ONNX export"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads or 0  # 0: one for each core
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a dozen kinds of its own
        raise UserError(f"'{file}' cannot be run by onnxruntime: {first_line(error)}") from error

    def answer(pixels: Floats) -> Any:
        return session.run(["logits"], {"images": pixels})[0]

    return answer
