"""One picture: decoded, upright, flattened, cut to its centre square and resized."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from gan_shared.data.source import reason
from gan_shared.errors import UserError, unexpected

# File endings of the formats that are read, in small letters.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
# What may be in them, whatever they are called: other readers of Pillow's start outside programs (EPS).
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
# As RGB this is a quarter of a gigabyte, and each decoding thread holds one. It lies above the 61 million
# pixels of a full-frame camera and below the 89 million where Pillow suspects a decompression bomb.
MAX_PIXELS = 80_000_000
# Smaller pictures are icons or tracking pixels: a smear when enlarged to any resolution there is.
MIN_SIDE = 8


def check_size(field: str, width: int, height: int) -> None:
    """Refuse a picture that is too small to show anything or too large to be decoded safely.

    Raises:
        UserError: naming the size found and the limits, in pixels.
    """
    if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
        raise unexpected(
            field,
            f"{width} x {height} pixels",
            f"at least {MIN_SIDE} pixels on each side and at most {MAX_PIXELS:,} in all",
        )


def decode(path: Path) -> Image.Image:
    """Read a picture file whole and turn it upright, as its EXIF orientation says.

    The size is checked from the header, before any pixel is decoded. Colour profiles are ignored.

    Raises:
        UserError: the file cannot be read, is no picture, is cut short, or is too small or too large.
    """
    with _naming(path), Image.open(path, formats=FORMATS) as picture:
        check_size(str(path), *picture.size)
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return picture


def read_resized(path: Path, resolution: int, channels: int) -> np.ndarray:
    """Read a picture file and bring it to a size; see ``decode`` and ``resized``, whose conversions find damage too."""
    picture = decode(path)
    with _naming(path):
        return resized(picture, resolution, channels)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever a damaged picture trips into the user's error that names its file."""
    try:
        yield
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        expected = f"at most {MAX_PIXELS:,} pixels"
        raise unexpected(str(path), f"too large a picture ({reason(error)})", expected) from error
    except Exception as error:
        # Besides OSError, Pillow's parsers raise SyntaxError, struct.error, IndexError and whatever else a
        # damaged file trips: none of them is a fault of ours, all of them are worth the file's name.
        expected = f"a complete picture in one of the formats {', '.join(SUFFIXES)}"
        found = f"a picture that cannot be decoded ({_without_path(error)})"
        raise unexpected(str(path), found, expected) from error


def _without_path(error: Exception) -> str:
    """Return the reason in one line; Pillow's message for a file of no known format repeats the path."""
    return "no known format" if isinstance(error, Image.UnidentifiedImageError) else reason(error)


def resized(picture: Image.Image, resolution: int, channels: int) -> np.ndarray:
    """Cut the centre square out of a picture and resize it with Pillow's antialiasing Lanczos filter.

    Args:
        picture: of any size and any mode that ``decode`` returns.
        resolution: height and width of the result in pixels.
        channels: 1 for grey (ITU-R 601 luma of RGB) or 3 for RGB (grey is repeated).

    Returns:
        uint8 (resolution, resolution, channels).
    """
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture
    if picture.size != (side, side):
        square = picture.crop((left, top, left + side, top + side))
    # Colours come before the resize: a palette's numbers cannot be averaged.
    square = flatten(square).convert("L" if channels == 1 else "RGB")
    if side != resolution:
        square = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(square).reshape(resolution, resolution, channels)


def flatten(picture: Image.Image) -> Image.Image:
    """Return the picture as 8-bit grey or colours without transparency: transparent parts lie on white.

    16-bit grey is scaled, so that 65535 becomes 255. CMYK is left to Pillow, which knows no ink profiles.
    """
    if picture.mode.startswith("I"):
        grey = np.rint(np.asarray(picture).astype(np.float64) / 257.0)
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture
