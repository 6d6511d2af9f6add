"""Images per second of the input pipeline alone, on one core: crop, flip and normalise, in batches of 128.

    python benchmarks/input_pipeline.py

Beside it, in turn, the same by PIL, image by image, as the plain loop does. Prints medians over rounds.
"""

import argparse
import json
import time
from itertools import islice
from statistics import median

import torch

from codistill.data.images import channel_statistics
from codistill.data.loader import TrainLoader
from codistill.data.sources.registry import open_source
from codistill.data.splits import prepare
from codistill.data.transforms.crop import PaddedCrop
from codistill.experiments.bench.loops import PilImages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()

    torch.set_num_threads(1)
    images = prepare(open_source("synthetic"), image_size=args.size, validation=0).train
    mean, std = channel_statistics(images.pixels)
    crop = PaddedCrop((args.size, args.size), args.size // 8, flip=True)
    speeds: dict[str, list[float]] = {"resident": [], "streamed": [], "pil": []}
    pil = PilImages(images, mean, std, crop.padding, flip=True, augmentations=1)
    loaders = {
        name: TrainLoader(images, batch_size=128, mean=mean, std=std, crop=crop, seed=0, resident=name == "resident")
        for name in ("resident", "streamed")
    }
    for epoch in range(args.rounds):
        for name, loader in loaders.items():
            began = time.perf_counter()
            count = sum(len(batch.labels) for batch in loader.epoch(epoch))
            speeds[name].append(count / (time.perf_counter() - began))
        began = time.perf_counter()
        for _ in islice(pil, 256):  # type: ignore[call-overload]
            pass
        speeds["pil"].append(256 / (time.perf_counter() - began))
    print(json.dumps({name: round(median(values)) for name, values in speeds.items()} | {"size": args.size}))


if __name__ == "__main__":
    main()
