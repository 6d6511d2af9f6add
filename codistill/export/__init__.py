"""From a finished run to one network for use elsewhere: weights, a PyTorch program or ONNX, checked and described."""

from pathlib import Path

from codistill.export.reader import FORMATS, Export, read_export


def export(
    run: str | Path,
    student: str = "best",
    to: str = "safetensors",
    *,
    epoch: str = "last",
    quantize: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Export:
    """Write the folder of an export; its facts hold the accuracy that was measured on the written file.

    student: a name; "best" by validation accuracy; "ensemble"; "teacher", or the teacher's name in the method ("cpm").
    epoch: "last", or "best", of a student: the weights of the epoch that was best on validation images.
    to: a key of ``FORMATS``. quantize: "int8" or None. out: the folder, by default exports/RUN-STUDENT-FORMAT.
    Raises UserError for what cannot be exported so, and if the file does not answer as the network does; then nothing
    is left behind.
    """
    from codistill.export.exporter import write_export  # here, for who reads an export needs no torch

    return write_export(Path(run), student, to, epoch, quantize, None if out is None else Path(out), overwrite)


__all__ = ["FORMATS", "Export", "export", "read_export"]
