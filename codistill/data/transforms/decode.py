"""One image file -> pixels, as a viewer shows it on a white page. What cannot be shown in one way only is refused.

- It is turned upright as its EXIF orientation says: cameras store what the sensor saw and leave turning to the viewer.
- Transparent parts show white: the colour stored beneath them is arbitrary, and nobody sees it.
- Grey becomes three equal channels, 16 bits become their upper 8, of an animation the first frame is taken.
- Colour profiles (ICC) are passed over, as torchvision and timm do: the numbers in the file are the pixels.
- A file that ends early, and one that declares more pixels than Pillow's limit, are errors.
"""

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

ENDINGS = (  # of files in these formats, as Pillow knows them
    *(".apng", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # not EPS: that is a program, and would run


def decode(file: str | BytesIO) -> NDArray[np.uint8]:
    """(H, W, 3). Raises ValueError that says what is wrong with the file."""
    try:
        with warnings.catch_warnings():
            # Of metadata that nobody reads here, and of sizes, which are an error below.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                _check_size(*image.size)
                ImageOps.exif_transpose(image, in_place=True)
                return _as_seen(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # a damaged file can raise anything in Pillow's readers
        raise ValueError(str(error).rstrip(".") or type(error).__name__) from error


def is_image(content: bytes) -> bool:
    """Whether the bytes begin as a file of ``FORMATS`` does. What follows may be damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(BytesIO(content), formats=FORMATS).close()
    except Exception as error:  # as above
        return not isinstance(error, UnidentifiedImageError)
    return True


def _check_size(width: int, height: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS  # up to twice as many, Pillow only warns
    if limit is not None and width * height > limit:
        raise ValueError(f"{width}x{height} pixels exceed Pillow's limit of {limit:,}")


def _as_seen(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):  # Pillow would cut at 255 where it should scale
        values = np.asarray(image).astype(np.uint16)
        grey = (values >> 8).astype(np.uint8)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no known range. Save it with 8 bits per channel")
    if "A" in image.getbands() or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))
