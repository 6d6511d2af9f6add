"""Images, folders and Parquet files as users have them, for tests: good, odd and broken."""

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet
from PIL import Image


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """An image of width and height ``size`` in colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png_that_claims(side: int) -> bytes:
    """A whole, black PNG of ``side`` pixels squared, in a file of some kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(((side + 7) // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_class_folders(
    root: str | Path = "data", classes: Sequence[str] = ("cat", "dog"), count: int = 10, size: tuple[int, int] = (8, 8)
) -> None:
    for place, name in enumerate(classes):
        folder = Path(root, name)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / f"{number}.png").write_bytes(encode(noise(place * count + number, size)))


def write_parquet(columns: Mapping[str, Sequence[Any]], features: Mapping[str, Any], path: str | Path) -> None:
    """A Parquet file as ``datasets`` writes it. Labels are taken as they are, also those that no class has."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    plain = {
        name: datasets.Value("int64") if isinstance(kind, datasets.ClassLabel) else kind
        for name, kind in features.items()
    }
    rows = datasets.Dataset.from_dict(dict(columns), features=datasets.Features(plain))
    meant = datasets.Dataset.from_dict({name: [] for name in features}, features=datasets.Features(dict(features)))
    table = rows.data.table.replace_schema_metadata(meant.data.table.schema.metadata)
    pyarrow.parquet.write_table(table, path)
