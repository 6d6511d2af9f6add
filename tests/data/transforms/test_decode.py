"""Images that are odd but good: their pixels are those that a viewer shows on a white page."""

import io

import numpy as np
import pytest
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from odd_files import encode
from PIL import Image, ImageCms

from codistill.data.transforms.decode import ENDINGS, FORMATS, decode

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
FLAG = Image.fromarray(np.array([[RED, GREEN, BLUE], [WHITE, WHITE, BLACK]], dtype=np.uint8))  # 3 wide, 2 high
LARGE = FLAG.resize((48, 32), Image.Resampling.NEAREST)  # whole blocks of 8x8 pixels, which JPEG keeps
TURNED_RIGHT = [[WHITE, RED], [WHITE, GREEN], [BLACK, BLUE]]
PALETTE = FLAG.convert("P", palette=Image.Palette.ADAPTIVE, colors=6)
STEPS = np.array([[0, 255, 256, 65535]], dtype=np.uint16)  # in 16 bits
HALF = Image.merge("RGBA", (*Image.new("RGB", (3, 1), RED).split(), Image.frombytes("L", (3, 1), b"\x00\x80\xff")))
GREY_HALF = Image.merge("LA", (Image.new("L", (3, 1), 100), Image.frombytes("L", (3, 1), b"\x00\x80\xff")))
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (1, 1), BLUE)]}


LAB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _palette_with_alpha() -> Image.Image:
    image = HALF.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE).convert("PA")
    image.putalpha(HALF.getchannel("A"))
    assert image.mode == "PA"
    return image


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def grey(*values: int) -> list[list[tuple[int, int, int]]]:
    return [[(value, value, value) for value in values]]


def jpeg(image: Image.Image, **options: object) -> bytes:
    return encode(image, "JPEG", quality=100, subsampling=0, **options)


@pytest.mark.parametrize(
    ("content", "pixels"),
    [
        pytest.param(encode(FLAG), FLAG, id="PNG"),
        pytest.param(encode(FLAG, "BMP"), FLAG, id="BMP"),
        pytest.param(encode(FLAG, "TIFF"), FLAG, id="TIFF"),
        pytest.param(encode(FLAG, "PPM"), FLAG, id="PPM"),
        pytest.param(encode(FLAG, "WEBP", lossless=True), FLAG, id="WebP"),
        pytest.param(encode(LARGE, "JPEG2000"), LARGE, id="JPEG 2000"),
        pytest.param(jpeg(LARGE), LARGE, id="JPEG"),
        pytest.param(jpeg(LARGE, progressive=True), LARGE, id="progressive JPEG"),
        pytest.param(jpeg(LARGE.convert("CMYK")), LARGE, id="CMYK JPEG"),
        pytest.param(encode(Image.frombytes("L", (2, 1), b"\x00\x64")), grey(0, 100), id="grey"),
        pytest.param(encode(Image.frombytes("1", (2, 1), b"\x40")), grey(0, 255), id="one bit"),
        pytest.param(encode(Image.fromarray(STEPS)), grey(0, 0, 1, 255), id="16 bits, PNG"),
        pytest.param(encode(Image.fromarray(STEPS), "TIFF"), grey(0, 0, 1, 255), id="16 bits, TIFF"),
        pytest.param(encode(Image.fromarray(STEPS), transparency=256), grey(0, 0, 255, 255), id="16 bits, transparent"),
        pytest.param(encode(PALETTE), FLAG, id="palette"),
        pytest.param(
            encode(PALETTE, transparency=PALETTE.getpixel((0, 0))),
            [[WHITE, GREEN, BLUE], [WHITE, WHITE, BLACK]],
            id="palette with a transparent colour",
        ),
        pytest.param(encode(PALETTE, transparency=b"\x00" * 6), [[WHITE] * 3] * 2, id="palette, all of it transparent"),
        pytest.param(
            encode(FLAG, transparency=BLACK), [[RED, GREEN, BLUE], [WHITE] * 3], id="colours, one of them transparent"
        ),
        pytest.param(encode(HALF), [[WHITE, (255, 127, 127), RED]], id="alpha shows white"),
        pytest.param(encode(GREY_HALF), grey(255, 177, 100), id="grey with alpha shows white"),
        pytest.param(encode(Image.new("RGB", (1, 1), RED), "GIF", **FRAMES), [[RED]], id="first frame of a GIF"),
        pytest.param(
            encode(Image.new("RGB", (1, 1), RED), "WEBP", lossless=True, **FRAMES), [[RED]], id="first frame of a WebP"
        ),
        pytest.param(
            encode(HALF, "WEBP", lossless=True, exact=True, save_all=True, append_images=[HALF.convert("RGB")]),
            [[WHITE, (255, 127, 127), RED]],
            id="first frame of a WebP with alpha",
        ),
        pytest.param(
            encode(_palette_with_alpha(), "TIFF"), [[WHITE, (255, 127, 127), RED]], id="palette with alpha shows white"
        ),
        pytest.param(encode(FLAG, icc_profile=LAB_PROFILE), FLAG, id="a colour profile is passed over"),
        pytest.param(jpeg(LARGE, icc_profile=b"no profile"), LARGE, id="a damaged colour profile"),
        pytest.param(encode(FLAG, exif=turned(1)), FLAG, id="EXIF: upright"),
        pytest.param(encode(FLAG, exif=turned(6)), TURNED_RIGHT, id="EXIF: turn right, PNG"),
        pytest.param(encode(FLAG, "TIFF", exif=turned(6)), TURNED_RIGHT, id="EXIF: turn right, TIFF"),
        pytest.param(encode(FLAG, exif=turned(2)), [[BLUE, GREEN, RED], [BLACK, WHITE, WHITE]], id="EXIF: mirrored"),
        pytest.param(
            jpeg(LARGE, exif=turned(6)), LARGE.transpose(Image.Transpose.ROTATE_270), id="EXIF: turn right, JPEG"
        ),
        pytest.param(jpeg(LARGE, exif=turned(6)).replace(b"Exif\0\0MM", b"Exif\0\0ZZ"), LARGE, id="EXIF: damaged"),
    ],
)
def test_an_odd_image_has_the_pixels_that_a_viewer_shows(content: bytes, pixels: Image.Image | list[object]) -> None:
    expected = np.array(pixels, dtype=np.int16)
    decoded = decode(io.BytesIO(content))
    assert decoded.dtype == np.uint8
    assert decoded.shape == expected.shape
    assert np.abs(decoded - expected).max() <= 1  # JPEG's rounding, and that of half an alpha


def test_files_are_told_by_all_endings_that_pillow_and_datasets_know_of_these_formats() -> None:
    Image.init()
    of_pillow = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    assert set(ENDINGS) == of_pillow & set(ImageFolder.EXTENSIONS)
