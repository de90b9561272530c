"""One picture: decoded, upright, flattened, cut to its centre square and resized."""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, features

from gan_shared.data.source import reason
from gan_shared.errors import UserError, unexpected

# Formats of Pillow that are read and their file endings, in small letters. Others of its readers start outside
# programs (EPS), or hold no pictures of their own (stubs of scientific formats).
FORMATS = {
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "ICO": (".ico",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "PNG": (".apng", ".png"),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "QOI": (".qoi",),
    "SGI": (".bw", ".rgb", ".rgba", ".sgi"),
    "TIFF": (".tif", ".tiff"),
}
# Those that a Pillow can be too old for, or built without: Pillow's name of the library, and endings.
LIBRARIES = {
    "AVIF": ("avif", (".avif",)),
    "JPEG2000": ("jpg_2000", (".j2k", ".jp2", ".jpx")),
    "WEBP": ("webp", (".webp",)),
}
FORMATS |= {name: suffixes for name, (library, suffixes) in LIBRARIES.items() if library in features.get_supported()}
# Formats that begin with nothing to be known by, so that any damaged file might be one: taken at their name alone.
NAMED_FORMATS = {"PCX": (".pcx",), "TGA": (".tga",)}
SUFFIXES = tuple(sorted(suffix for suffixes in (FORMATS | NAMED_FORMATS).values() for suffix in suffixes))
# It lies above the 61 million pixels of a full-frame camera and below the 89 million where Pillow suspects a
# decompression bomb.
MAX_PIXELS = 80_000_000
# Smaller pictures are icons or tracking pixels: a smear when enlarged to any resolution there is.
MIN_SIDE = 8
# Bytes that a pixel takes while its picture is decoded and cut: two copies of Pillow's four.
BYTES_PER_PIXEL = 8
# Pieces that glibc gives back to the system are larger than 32 MB.
BLOCK_BYTES = 64 * 2**20
# Size of the MNIST family's images, and the border of zeros that makes them 32 pixels, as networks of powers of two
# expect.
MNIST_SIDE, MNIST_BORDER = 28, 2

T = TypeVar("T")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def large_blocks() -> Iterator[None]:
    """Let Pillow take the memory of a picture in one piece until the block ends; the setting is its process's.

    By itself it takes pieces of 16 MB, which glibc keeps for the thread that freed them: as much for each thread as the
    largest picture that it has decoded. Larger pieces go back to the system.
    """
    before = Image.core.get_block_size()
    Image.core.set_block_size(BLOCK_BYTES)
    try:
        yield
    finally:
        Image.core.set_block_size(before)


def is_picture(name: str) -> bool:
    """Return whether a file has the ending of a format that is read."""
    return name.lower().endswith(SUFFIXES)


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


def size_of(content: bytes, field: str) -> tuple[int, int]:
    """Return width and height that the header of a picture file announces; no pixel is decoded.

    Raises:
        UserError: it is no picture, or is too small or too large.
    """
    with _naming(field):
        return _with_metadata_or_without(_size, content, field)


def decode(content: bytes, field: str) -> Image.Image:
    """Decode a picture file and turn it upright, as its EXIF orientation says; of several frames the first.

    The size is checked from the header, before any pixel is decoded. Colour profiles and other metadata are ignored,
    and do no harm where they are damaged.

    Args:
        content: the file.
        field: its name, for the error message and, with formats that begin with nothing to be known by, for its kind.

    Raises:
        UserError: it is no picture, is cut short, or is too small or too large.
    """
    with _naming(field):
        return _with_metadata_or_without(_decoded, content, field)


def read_resized(content: bytes, field: str, resolution: int, channels: int) -> np.ndarray:
    """Bring a picture file to a size; see ``decode`` and ``brought_to``, whose conversions find damage too."""
    return brought_to(decode(content, field), field, resolution, channels)


def brought_to(picture: Image.Image, field: str, resolution: int, channels: int) -> np.ndarray:
    """Bring a picture to a size; see ``resized``. One of the MNIST family's size gets a border first.

    Args:
        picture: of any size and any mode that ``decode`` returns.
        field: its name, for the error message.
        resolution: height and width of the result in pixels.
        channels: 1 or 3.

    Returns:
        uint8 (resolution, resolution, channels).

    Raises:
        UserError: it cannot be converted, or is too small or too large.
    """
    check_size(field, *picture.size)
    with _naming(field):
        if picture.size == (MNIST_SIDE, MNIST_SIDE) and resolution != MNIST_SIDE:
            return resized(with_border(flatten(picture), channels), resolution, channels)
        return resized(picture, resolution, channels)


def with_border(picture: Image.Image, channels: int) -> Image.Image:
    """Return a picture of the MNIST family's size with a border of black around it: 32 pixels."""
    whole = MNIST_SIDE + 2 * MNIST_BORDER
    result = Image.new("L" if channels == 1 else "RGB", (whole, whole))
    result.paste(picture.convert(result.mode), (MNIST_BORDER, MNIST_BORDER))
    return result


def _opened(content: bytes, field: str) -> Image.Image:
    """Read the header of a picture file."""
    suffix = PurePosixPath(field).suffix.lower()
    named = [name for name, suffixes in NAMED_FORMATS.items() if suffix in suffixes]
    return Image.open(BytesIO(content), formats=[*FORMATS, *named])


def _size(content: bytes, field: str) -> tuple[int, int]:
    """Return width and height from the header of a picture file."""
    with _opened(content, field) as picture:
        check_size(field, *picture.size)
        return picture.size


def _decoded(content: bytes, field: str) -> Image.Image:
    """Decode a picture file and turn it upright."""
    with _opened(content, field) as picture:
        check_size(field, *picture.size)
        picture.load()
        turn = TURNS.get(_orientation(picture))
        # Not ImageOps.exif_transpose: it writes all metadata anew, and what is damaged in them is an error then.
        return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    """Return how a picture is to be turned, by EXIF's numbers; 1, not at all, where its metadata cannot be read."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises whatever a damaged directory trips
        return 1


def _with_metadata_or_without(read: Callable[[bytes, str], T], content: bytes, field: str) -> T:
    """Read a picture file; where that fails, without what no pixel depends on.

    Pillow refuses PNG files for a text or a colour profile that is damaged or long; the checksums of the pixels it does
    not compare.
    """
    chunks = list(_png_chunks(content)) if content.startswith(PNG_SIGNATURE) else []
    try:
        return read(content, field)
    except Exception as error:
        if not chunks or isinstance(error, UserError):
            raise
    return read(b"".join([PNG_SIGNATURE, *chunks]), field)


def _png_chunks(content: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG file that the pixels depend on.

    Raises:
        ValueError: one is not whole, or fails its checksum.
    """
    place, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        if place + 12 > len(content):
            raise ValueError("cut short")
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content):
            raise ValueError("cut short")
        # A capital first letter says that a chunk is needed for the pixels; transparency and orientation are, too.
        if kind[:1].isupper() or kind in (b"tRNS", b"eXIf"):
            (checksum,) = struct.unpack_from(">I", content, end - 4)
            if zlib.crc32(content[place + 4 : end - 4]) != checksum:
                raise ValueError(f"a chunk {kind.decode('latin-1')} that fails its checksum")
            yield content[place:end]
        place = end


@contextmanager
def _naming(field: str) -> Iterator[None]:
    """Turn whatever a damaged picture trips into the user's error that names its file."""
    try:
        yield
    except UserError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        expected = f"at most {MAX_PIXELS:,} pixels"
        raise unexpected(field, f"too large a picture ({reason(error)})", expected) from error
    except Exception as error:
        # Besides OSError, Pillow's parsers raise SyntaxError, struct.error, IndexError and whatever else a
        # damaged file trips: none of them is a fault of ours, all of them are worth the file's name.
        unknown = isinstance(error, Image.UnidentifiedImageError)  # whose message names an object of ours
        found = f"a picture that cannot be decoded ({'no known format' if unknown else reason(error)})"
        raise unexpected(field, found, "a complete picture", FORMATS if unknown else ()) from error


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
    square, mode = flatten(square), "L" if channels == 1 else "RGB"
    square = square if square.mode == mode else square.convert(mode)
    if side != resolution:
        square = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(square).reshape(resolution, resolution, channels)


def flatten(picture: Image.Image) -> Image.Image:
    """Return the picture as 8-bit grey or colours without transparency: transparent parts lie on white.

    16-bit grey is scaled, so that 65535 becomes 255. CMYK is left to Pillow, which knows no ink profiles.

    Raises:
        ValueError: its pixels are fractions, or whole numbers beyond 16 bits, of which it is not known what is white.
    """
    if picture.mode.startswith("I"):
        grey = np.asarray(picture)
        if grey.dtype.itemsize > 2 and (grey.min() < 0 or grey.max() > 65535):
            raise ValueError(f"whole numbers from {grey.min()} to {grey.max()}, not of 16 bits")
        # 257 is odd, so that no value lies halfway between two.
        return Image.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("floating-point pixels, of which it is not known what is white")
    if picture.has_transparency_data:
        layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        result = Image.new("RGB", layer.size, "white")
        result.paste(layer, mask=layer.getchannel("A"))
        return result
    return picture
