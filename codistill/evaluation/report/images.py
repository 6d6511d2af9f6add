"""Images of a run as small PNG files within the page, and maps laid over them."""

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codistill.errors.printable import printable
from codistill.evaluation.report.palette import series
from codistill.evaluation.report.run_record import Story

SIDE = 112  # pixels to which small images are enlarged, by whole factors, so that each pixel stays one
MOST_EXAMPLES = 6
Pixels = NDArray[np.uint8]


class Picture(NamedTuple):
    """One image as a page shows it."""

    source: str  # a data: address
    alt: str
    caption: str


class Card(NamedTuple):
    """Images that belong together, and what is said below them."""

    pictures: list[Picture]
    lines: list[str]


def enlarge(pixels: Pixels, side: int = SIDE) -> Pixels:
    """(H, W, C) uint8 -> each pixel repeated until the image is about ``side`` wide; larger ones stay."""
    if pixels.shape[-1] == 1:
        pixels = pixels.repeat(3, axis=-1)
    factor = max(1, round(side / max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def overlay(pixels: Pixels, strength: NDArray[np.floating], colour: str) -> Pixels:
    """An image (H, W, 3) in grey, with ``colour`` where the map (h, w), from 0 to 1, is strong."""
    grey = pixels.astype(np.float64).mean(axis=-1, keepdims=True) * 0.8 + 255 * 0.2
    small = Image.fromarray((255 * np.clip(strength, 0, 1)).astype(np.uint8))
    alpha = np.asarray(small.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC), dtype=np.float64)[..., None] / 255
    tint = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)], dtype=np.float64)
    return np.clip(grey * (1 - 0.8 * alpha) + tint * 0.8 * alpha, 0, 255).astype(np.uint8)


def data_address(pixels: Pixels) -> str:
    """(H, W, 3) uint8 -> a PNG file in an address."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def contributions(story: Story) -> list[Card]:
    """For some images: where the CPM looks in each student's map, and how much of the fused map is the student's."""
    examples = story.examples
    names = [name for name in story.students if examples and f"contribution/{name}" in examples.arrays]
    if examples is None or not names:
        return []
    arrays = examples.arrays
    ranges = {kind: _range([arrays[f"{kind}/{name}"] for name in names]) for kind in ("attention", "contribution")}
    cards = []
    for place in range(min(MOST_EXAMPLES, len(arrays["images"]))):
        label, image = int(arrays["labels"][place]), enlarge(arrays["images"][place])
        pictures = [Picture(data_address(image), f"Test image of class {_class(story, label)}", "image")]
        for number, name in enumerate(names):
            share = 100 * float(arrays[f"contribution/{name}"][place].mean())
            for kind, caption in (("contribution", f"{name}: {share:.0f} %"), ("attention", f"{name}: looked at")):
                low, high = ranges[kind]
                strength = (arrays[f"{kind}/{name}"][place] - low) / max(high - low, 1e-9)
                shown = overlay(image, strength, series(number))
                pictures.append(Picture(data_address(shown), f"Map of {kind} of {name} laid over the image", caption))
        cards.append(Card(pictures, [f"class {_class(story, label)}", *_answers(story, int(arrays["rows"][place]))]))
    return cards


def fixed(story: Story) -> list[Card]:
    """Test images that a student has right and the same student of the control had wrong."""
    if story.fixed is None:
        return []
    arrays = story.fixed.arrays
    cards = []
    for place in range(len(arrays["images"])):
        label = _class(story, int(arrays["labels"][place]))
        lines = [f"class {label}"]
        for name in story.students:
            alone, together = (int(arrays[f"{kind}/{name}"][place]) for kind in ("control", "answers"))
            changed = f"{_class(story, alone)} → " if alone != together else ""
            lines.append(f"{name}: {changed}{_class(story, together)}")
        cards.append(Card([Picture(_address_of(arrays, place), f"Test image of class {label}", "")], lines))
    return cards


def _address_of(arrays: dict[str, Any], place: int) -> str:
    return data_address(enlarge(arrays["images"][place]))


def _answers(story: Story, row: int) -> list[str]:
    """What everybody said of a test image, and how sure."""
    raw = story.raw
    if raw is None or row >= len(raw.labels):
        return []
    lines = []
    for name, logits in raw.logits.items():
        shifted = np.exp(logits[row].astype(np.float64) - logits[row].max())
        answer, sure = int(logits[row].argmax()), 100 * float(shifted.max() / shifted.sum())
        mark = "✓" if answer == raw.labels[row] else "✗"
        lines.append(f"{name}: {_class(story, answer)} {mark} {sure:.0f} %")
    return lines


def _class(story: Story, label: int) -> str:
    names = story.analysis["class_names"] if story.analysis else []
    return printable(str(names[label])) if 0 <= label < len(names) else str(label)


def _range(maps: list[NDArray[np.floating]]) -> tuple[float, float]:
    return min(float(own.min()) for own in maps), max(float(own.max()) for own in maps)
