"""An ONNX graph in 8 bits: weights per channel, activations in the range that training images showed.

onnxruntime's static quantisation, in its format QDQ: pairs of nodes that quantise and dequantise around what is
computed, which run times turn into integer kernels.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codistill.data.images import Images
from codistill.errors.libraries import importing

CALIBRATION = 512  # training images, evenly spread
_BATCH = 32


def quantize_int8(path: Path, images: Images) -> int:
    """Replace an ONNX file by the same network in 8 bits. Returns how many training images were looked at."""
    with importing("onnxruntime", "--quantize int8"):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    few = images.spread(CALIBRATION)

    class Calibration(CalibrationDataReader):
        """Batches of pixels in [0, 1], one after the other, then None."""

        def __init__(self) -> None:
            self._batches = _batches(few)

        def get_next(self) -> Any:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch}

    full = path.with_name("full_precision.onnx")
    path.replace(full)
    silenced = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it asks for a preparation that PyTorch's exporter has done
    try:
        quantize_static(
            full,
            path,
            Calibration(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.disable(silenced)
        full.unlink()
    return len(few)


def _batches(images: Images) -> Iterator[NDArray[np.float32]]:
    for pixels in images.pixels.split(_BATCH):
        yield np.ascontiguousarray(pixels.permute(0, 3, 1, 2).numpy(), dtype=np.float32) / np.float32(255)
