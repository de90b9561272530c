"""Arrays of images to picture files: grids, single pictures, animations."""

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gan_shared.atomic import replacing

# Mid-grey, so that the gap between the pictures of a grid differs from black and white backgrounds.
GAP_VALUE = 128


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Arrange images row by row in one picture.

    Args:
        images: uint8 (N, H, W, C).
        columns: pictures per row; the square root of N, rounded up, when not given.
        gap: pixels around and between the pictures.

    Returns:
        uint8 (rows * (H + gap) + gap, columns * (W + gap) + gap, C).
    """
    count, height, width, channels = images.shape
    columns = columns or ceil(sqrt(count))
    rows = ceil(count / columns)
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, channels)
    sheet = np.full(shape, GAP_VALUE, np.uint8)
    for i, image in enumerate(images):
        top = gap + (i // columns) * (height + gap)
        left = gap + (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def beside(pictures: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Put each picture beside what was made of it.

    Args:
        pictures: uint8 (N, kH, kW, C); averaged to the size of the others.
        made: uint8 (N, H, W, C).

    Returns:
        uint8 (2 N, H, W, C): picture, made, picture, made...
    """
    count, height, width, channels = made.shape
    factor = pictures.shape[1] // height
    blocks = pictures.reshape(count, height, factor, width, factor, channels).mean((2, 4))
    return np.stack([np.rint(blocks).astype(np.uint8), made], 1).reshape(2 * count, height, width, channels)


def captioned(sheet: np.ndarray, text: str) -> np.ndarray:
    """Write a line of text above one uint8 picture (H, W, C), which becomes wider where the line is longer."""
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((GAP_VALUE // 32, 2), text)
    height, width, channels = sheet.shape
    strip = Image.new("L", (max(width, int(right + left)), int(bottom + top)), GAP_VALUE)
    ImageDraw.Draw(strip).text((left, 2), text, fill=0)
    result = np.full((height + strip.height, strip.width, channels), GAP_VALUE, np.uint8)
    result[: strip.height] = np.asarray(strip)[:, :, None]
    result[strip.height :, :width] = sheet
    return result


def to_pillow(image: np.ndarray) -> Image.Image:
    """Wrap one uint8 image (H, W, 1 or 3) for Pillow."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def save_png(path: Path, image: np.ndarray) -> None:
    """Write one uint8 image (H, W, C) as PNG."""
    with replacing(path) as temporary:
        to_pillow(image).save(temporary, format="PNG")


def save_gif(path: Path, frames: Sequence[np.ndarray], milliseconds: int = 60) -> None:
    """Write uint8 images (H, W, C) as an endless animation.

    Args:
        path: the file.
        frames: the pictures in order.
        milliseconds: time that each is shown.
    """
    first, *rest = [to_pillow(frame) for frame in frames]
    with replacing(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
