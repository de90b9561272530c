"""IDX, the format of MNIST and its relatives, packed with gzip or not.

Two zero bytes, the type of the values, the number of axes, the length of each axis as a big-endian 32-bit
number, then the values in C order: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from gan_shared.data.arrays import checked_shape, resized_chunks
from gan_shared.data.source import Contents, Source, check_labels, reading, stream_images
from gan_shared.errors import UserError, unexpected

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 0x08
# What a file of images is called. That of its labels has the same separator or the other.
IMAGES = re.compile(r"images([-.])idx\d")
EXPECTED = "an IDX file of unsigned bytes"


def source(path: Path) -> Source:
    """Describe an IDX file of images, (N, H, W) or (N, H, W, C), and its labels where MNIST keeps them.

    Labels are read from the sibling that is named as MNIST names it: ``images-idx3`` becomes ``labels-idx1``.

    Raises:
        UserError: it is no IDX file, or its values or axes are not those of images.
    """
    with _opened(path) as stream:
        shape = checked_shape(str(path), _axes(stream, path))
    labels_path = _labels_path(path)

    def read(resolution: int, channels: int) -> Contents:
        labels, classes = _labels(labels_path, shape[0]) if labels_path else (None, ())
        chunks = resized_chunks(_images(path, shape), resolution, channels)
        return Contents(shape[0], chunks, labels, classes)

    files = (path.name, labels_path.name) if labels_path else (path.name,)
    no_labels = "" if labels_path else "no file of labels beside it"
    return Source("idx", path.parent, files, shape[3], read, no_labels=no_labels)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open an IDX file, unpacking it when its first bytes are gzip's, whatever it is called."""
    with reading(path, EXPECTED):
        with open(path, "rb") as stream:
            packed = stream.read(2) == GZIP_MAGIC
        with gzip.open(path) if packed else open(path, "rb") as stream:
            yield stream  # type: ignore[misc]  # GzipFile reads as IO[bytes] does


def _axes(stream: IO[bytes], path: Path) -> tuple[int, ...]:
    """Read the header and return the length of each axis."""
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        found = f"a file that begins with the bytes {start.hex(' ') or '(none)'}"
        raise unexpected(str(path), found, f"{EXPECTED}: 00 00 08 and the number of axes")
    if start[2] != UNSIGNED_BYTE:
        raise unexpected(str(path), f"values of IDX type 0x{start[2]:02x}", "0x08 (unsigned bytes)")
    lengths = stream.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise unexpected(str(path), "the end of the file in its header", EXPECTED)
    return tuple(int(length) for length in np.frombuffer(lengths, ">u4"))


def _images(path: Path, shape: tuple[int, int, int, int]) -> Iterator[np.ndarray]:
    """Yield the images of an IDX file as uint8 (n, H, W, C)."""
    with _opened(path) as stream:
        _axes(stream, path)
        yield from stream_images(stream, shape, str(path))


def _labels_path(path: Path) -> Path | None:
    """Return the file of the labels, packed like the images or not, or None where there is none."""
    match = IMAGES.search(path.name)
    if match is None:
        return None
    names = [IMAGES.sub(f"labels{separator}idx1", path.name) for separator in sorted("-.", key=match[1].__ne__)]
    siblings = [path.with_name(each) for name in names for each in (name, name.removesuffix(".gz"), f"{name}.gz")]
    return next((sibling for sibling in siblings if sibling.is_file()), None)


def _labels(path: Path, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels of an IDX file and their class names."""
    with _opened(path) as stream:
        axes = _axes(stream, path)
        if axes != (count,):
            raise unexpected(str(path), f"labels of shape {axes}", f"one for each of {count} images")
        values = stream.read(count + 1)
    if len(values) != count:
        raise UserError(f"{path}: found {len(values)} bytes of labels or more, expected {count}")
    return check_labels(str(path), np.frombuffer(values, np.uint8), count)
