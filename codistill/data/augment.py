"""Augmentation of a whole batch at once: one gather crops and flips uint8 images where they lie, then normalises."""

import torch
from torch import Tensor


def pad_reflect(pixels: Tensor, padding: int) -> Tensor:
    """(n, H, W, C) -> (n, H + 2p, W + 2p, C), mirrored at the borders without repeating them. Keeps uint8."""
    if padding == 0:
        return pixels
    height, width = pixels.shape[1:3]
    rows = _mirrored(height, padding, pixels.device)
    columns = _mirrored(width, padding, pixels.device)
    return pixels[:, rows][:, :, columns].contiguous()


def crop_and_flip(
    padded: Tensor, rows: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, size: tuple[int, int]
) -> Tensor:
    """Crops of (H, W) = ``size`` from the images ``rows`` (B,) of ``padded`` (n, H', W', C), some mirrored.

    ``top`` and ``left`` (B,) are the crops' corners, ``mirrored`` (B,) is bool. Returns (B, C, H, W) uint8, in
    channels-last memory order.
    """
    height, width = size
    y = top[:, None] + torch.arange(height, device=padded.device)  # (B, H)
    x = torch.arange(width, device=padded.device)
    x = left[:, None] + torch.where(mirrored[:, None], x.flip(0), x)  # (B, W)
    return padded[rows[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) uint8 -> float with the given mean and std (C,), both in units of 1 = white."""
    scale = 1.0 / (255.0 * std)
    return images.float() * scale.view(-1, 1, 1) - (mean / std).view(-1, 1, 1)


def _mirrored(length: int, padding: int, device: torch.device) -> Tensor:
    """Indices -p .. length + p - 1, reflected into 0 .. length - 1."""
    index = torch.arange(-padding, length + padding, device=device).abs()
    return torch.where(index >= length, 2 * (length - 1) - index, index)
