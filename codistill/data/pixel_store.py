"""Where training pixels lie: all of them on the device that trains, or on the host, from where batches come ahead."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from codistill.data.transforms.crop import pad_reflect

AHEAD = 2  # batches on their way while one is trained on
CHUNK = 4096  # images that are padded at a time, so that the device never holds all of them twice


class Store(ABC):
    """Padded pixels by row."""

    @abstractmethod
    def fetch(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each batch of rows (B,): padded pixels (n, H', W', C) on the device, and where in them its rows are."""


class Resident(Store):
    """Padded once and kept on the device."""

    def __init__(self, pixels: Tensor, padding: int, device: torch.device) -> None:
        if padding == 0:
            self._padded = pixels.to(device)
            return
        size, height, width, channels = pixels.shape
        shape = (size, height + 2 * padding, width + 2 * padding, channels)
        self._padded = torch.empty(shape, dtype=pixels.dtype, device=device)
        for place, part in zip(self._padded.split(CHUNK), pixels.split(CHUNK), strict=True):
            place.copy_(pad_reflect(part.to(device), padding))

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in batches:
            yield self._padded, rows


class Streamed(Store):
    """Left where they are, in memory or in a mapped file; a thread brings and pads the next batches."""

    def __init__(self, pixels: Tensor, padding: int, device: torch.device) -> None:
        self._pixels = pixels
        self._padding = padding
        self._device = device

    def fetch(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        batches = list(batches)
        if not batches:
            return
        on_host = torch.cat(batches).cpu()  # at once: to bring rows from a GPU waits for all of its work
        on_the_way: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(1, "pixels", initializer=torch.set_num_threads, initargs=(1,)) as thread:
            for rows in on_host.split([len(rows) for rows in batches]):
                on_the_way.append(thread.submit(self._bring, rows))
                if len(on_the_way) > AHEAD:
                    yield self._whole(on_the_way.popleft())
            while on_the_way:
                yield self._whole(on_the_way.popleft())

    def _bring(self, rows: Tensor) -> Tensor:
        pixels = self._pixels[rows]
        if self._device.type == "cuda":  # only from pinned memory does a copy not wait for the GPU
            pixels = pixels.pin_memory()
        return pad_reflect(pixels.to(self._device, non_blocking=True), self._padding)

    def _whole(self, arriving: Future[Tensor]) -> tuple[Tensor, Tensor]:
        pixels = arriving.result()
        return pixels, torch.arange(len(pixels), device=self._device)


def padded_bytes(pixels: Tensor, padding: int) -> int:
    """What ``Resident`` takes: (n, H, W, C) uint8, padded."""
    n, height, width, channels = pixels.shape
    return n * (height + 2 * padding) * (width + 2 * padding) * channels
