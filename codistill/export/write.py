"""One function per format: a network into the files of an export's folder."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch.export import Dim, ExportedProgram

from codistill.errors import UserError, first_line
from codistill.errors.libraries import importing
from codistill.export.network import Deployed
from codistill.export.plain import Plain
from codistill.export.reader import FORMATS

# What a program remembers of the code that it was traced from: paths of this machine, and nothing that it needs.
_ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")


def write_safetensors(folder: Path, plain: Plain, facts: Mapping[str, Any]) -> None:
    """model.safetensors and model.json; ``facts`` are those of a run's student, for ``codistill.load_student``."""
    header = {key: json.dumps(value) for key, value in facts.items()} if plain.model["library"] == "codistill" else {}
    (folder / FORMATS["safetensors"]).write_bytes(save(plain.weights, header))
    (folder / "model.json").write_text(json.dumps(plain.model, indent=2) + "\n", encoding="utf-8")


def write_program(folder: Path, network: Deployed, image_size: tuple[int, int]) -> None:
    """model.pt2, for batches of any size."""
    program = trace(network, image_size)
    for node in program.graph.nodes:
        for key in _ORIGINS:
            node.meta.pop(key, None)
    torch.export.save(program, folder / FORMATS["torch"])


def write_onnx(folder: Path, network: Deployed, image_size: tuple[int, int]) -> None:
    """model.onnx, by torch.export: the input ``images``, the output ``logits``, batches of any size."""
    onnx = import_onnx()
    with _explained("ONNX"), warnings.catch_warnings(), _errors_only(logging.getLogger("torch.onnx")):
        warnings.simplefilter("ignore")  # of PyTorch, about itself
        made = torch.onnx.export(
            trace(network, image_size),
            input_names=["images"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
        )
        assert made is not None
        model = made.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]  # sizes between the layers name the batch as PyTorch does
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / FORMATS["onnx"])


@contextmanager
def _errors_only(logger: logging.Logger) -> Iterator[None]:
    """Without the warnings of a library's part: PyTorch's exporter logs each operator that torchvision would add."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def trace(network: Deployed, image_size: tuple[int, int]) -> ExportedProgram:
    """The network as a program for (B, 3, height, width), of any B."""
    example = torch.zeros(2, 3, *image_size)
    with _explained("PyTorch"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (example,), dynamic_shapes={"images": {0: Dim.DYNAMIC}})


def import_onnx() -> Any:
    """onnx, after a look whether what writes it is there. Raises UserError that names the extra."""
    with importing("onnx", "Export to ONNX"):
        import onnx
        import onnxscript  # noqa: F401 (PyTorch's exporter needs it)
    return onnx


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # tracing can fail in any part of a network's own code
        raise UserError(
            f"This network cannot be traced for {what}: {first_line(error)}. "
            "Its weights can be exported: --to safetensors."
        ) from error
