"""How fast this machine computes a ResNet-32's convolutions: what bounds a training step, whatever is around them.

    python benchmarks/convolutions.py [--device cuda --precision bf16]

GFLOP/s of the 3x3 convolution between equally many channels of each stage, batch 128: forward, to the images and to
the weights, in channels-last and in NCHW memory, beside a product of two square matrices. On one core of a CPU,
with freed memory kept as in training.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from codistill.training.allocator import keep_freed_memory

STAGES = ((16, 32), (32, 16), (64, 8))  # channels, and height and width
LAYOUTS = {"channels_last": torch.channels_last, "nchw": torch.contiguous_format}
BATCH, SIDE = 128, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    how: dict[str, Any] = {
        "device": torch.device(args.device),
        "dtype": {"fp32": torch.float32, "bf16": torch.bfloat16}[args.precision],
    }

    def speed(operations: int, call: Callable[[], Any]) -> float:
        return round(operations / median(_seconds(call, how["device"], args.rounds)) / 1e9, 1)

    square = torch.randn(SIDE, SIDE, **how)
    result: dict[str, Any] = {"matrix_product": speed(2 * SIDE**3, lambda: square @ square)}
    for channels, side in STAGES:
        operations = 2 * BATCH * channels * channels * 9 * side * side
        for name, layout in LAYOUTS.items():
            images = torch.randn(BATCH, channels, side, side, **how).contiguous(memory_format=layout)
            weights = torch.randn(channels, channels, 3, 3, **how).contiguous(memory_format=layout)
            result[f"{channels} channels, {side}x{side}, {name}"] = {
                part: speed(operations, call) for part, call in _passes(images, weights).items()
            }
    print(json.dumps({"gflop_per_second": result, "device": args.device, "precision": args.precision}, indent=2))


def _passes(images: Tensor, weights: Tensor) -> dict[str, Callable[[], Any]]:
    gradients = torch.randn_like(images)

    def backward(to_images: bool, to_weights: bool) -> Any:
        return torch.ops.aten.convolution_backward(
            gradients, images, weights, None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1, (to_images, to_weights, False)
        )

    return {
        "forward": lambda: F.conv2d(images, weights, padding=1),
        "to images": lambda: backward(True, False),
        "to weights": lambda: backward(False, True),
    }


def _seconds(call: Callable[[], Any], device: torch.device, rounds: int) -> list[float]:
    taken = []
    for number in range(rounds + 3):  # the first three warm up
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= 3:
            taken.append(time.perf_counter() - began)
    return taken


if __name__ == "__main__":
    main()
