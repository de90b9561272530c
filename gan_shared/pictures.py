"""Arrays of images to picture files: grids, single pictures, animations."""

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gan_shared.atomic import replacing
from gan_shared.errors import UserError, optional_module, unexpected

# Mid-grey, so that the gap between the pictures of a grid differs from black and white backgrounds.
GAP_VALUE = 128
# Time that an animation shows each picture.
FRAME_MILLISECONDS = 60
# Height in pixels of a film of small pictures, at most.
FILM_HEIGHT = 512


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


def save_gif(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Write uint8 images (H, W, C) as an endless animation, each shown for FRAME_MILLISECONDS."""
    first, *rest = [to_pillow(frame) for frame in frames]
    with replacing(path) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=rest, duration=FRAME_MILLISECONDS, loop=0)


def save_mp4(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Write uint8 images (H, W, C) as a film (H.264), each shown for FRAME_MILLISECONDS.

    Small ones are enlarged by whole factors, as players show a film at its own size or blur it; even sizes are what
    the codec takes.

    Raises:
        UserError: imageio-ffmpeg is not installed, or its ffmpeg cannot write the film.
    """
    package = optional_module("imageio_ffmpeg", "out", f"{path.name} without imageio-ffmpeg", "video")
    try:
        ffmpeg = package.get_ffmpeg_exe()
    except RuntimeError as error:  # it has none for this system
        raise unexpected("out", path.name, f"another kind of file: {' '.join(str(error).split())}") from error
    frames = iter(frames)
    first = next(frames)
    factor = max(1, FILM_HEIGHT // first.shape[0])
    height, width = (size * factor + size * factor % 2 for size in first.shape[:2])
    pixels = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"1000/{FRAME_MILLISECONDS}"]
    film = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-f", "mp4"]
    with replacing(path) as temporary:
        command = [ffmpeg, "-loglevel", "error", "-y", *pixels, "-i", "-", *film, str(temporary)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended, and says why
                for frame in chain([first], frames):
                    large = frame.repeat(factor, 0).repeat(factor, 1).repeat(3 // frame.shape[2], 2)
                    edge = ((0, height - large.shape[0]), (0, width - large.shape[1]), (0, 0))
                    process.stdin.write(np.pad(large, edge, mode="edge").tobytes())
            _, said = process.communicate()
        if process.returncode:
            reason = " ".join(said.decode(errors="replace").split()) or f"status {process.returncode}"
            raise UserError(f"{path}: could not be written: ffmpeg: {reason}")
