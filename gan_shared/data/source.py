"""What every kind of image source offers the cache: cheap to name, read only when it must be."""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from gan_shared.errors import UserError, unexpected

# What the readers of the standard library and NumPy raise for a damaged or unreadable file.
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    RuntimeError,
    tokenize.TokenError,
    lzma.LZMAError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    MemoryError,  # of a header that is nested deeply, or promises too much
)
# Class names are kept in memory and in JSON, so a label is a class number, not any number.
MAX_CLASSES = 65536
# Bytes read at a time from files that may be larger than the memory.
CHUNK_BYTES = 4 * 2**20
# First bytes of what a file may be packed with.
PACKED: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class Chunk(NamedTuple):
    """Some images of a source.

    Attributes:
        images: uint8 (n, R, R, C).
        keys: uint64 (n,), what the content of each is known by at every resolution; see ``content_key``.
    """

    images: np.ndarray
    keys: np.ndarray


class Contents(NamedTuple):
    """What a source holds, its images still to be read.

    Attributes:
        total: number of images N.
        chunks: the images in order, N in all.
        labels: int64 (N,), or None.
        class_names: name of each label, empty without labels.
    """

    total: int
    chunks: Iterator[Chunk]
    labels: np.ndarray | None
    class_names: tuple[str, ...]


# A file's name, and its content when it is asked for.
File = tuple[str, Callable[[], bytes]]


class Held:
    """The content of a file that has been read already, as a function that returns it.

    Args:
        content: the file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __call__(self) -> bytes:
        return self.content


# Called with name and sha256 of a picture before it is decoded; raises a UserError for one that is not wanted.
Check = Callable[[str, str], None]


class Source(NamedTuple):
    """A set of images that was found, of which at most a header has been read.

    Attributes:
        kind: the format, or the name of a named set.
        root: the folder of its files.
        files: path of each file relative to ``root``, in POSIX form, in the order of reading.
        channels: colours that the source has by itself, 1 or 3.
        read: (resolution, channels) -> Contents, whose images are resized and converted to those colours; of a
            collection of pictures also (resolution, channels, check).
        about: what was found, in one line for the user; empty where there is nothing to say.
        no_labels: why there are no labels, where that may not be what was meant.
        names: of a collection of pictures those of the pictures.
        pictures: of such a collection names and contents.
        classes: of such a collection the name of each picture's class; empty without classes.
    """

    kind: str
    root: Path
    files: tuple[str, ...]
    channels: int
    read: Callable[..., Contents]
    about: str = ""
    no_labels: str = ""
    names: tuple[str, ...] = ()
    pictures: Callable[[], Iterable[File]] | None = None
    classes: tuple[str, ...] = ()


def content_key(digest: bytes) -> int:
    """Return the key of an image by the sha256 of its content: the first 8 bytes as a big-endian number.

    The content is a picture's file, or the pixels of an array as its source holds them: uint8 (H, W, C) in C order.
    """
    return int.from_bytes(digest[:8], "big")


def pixel_keys(images: np.ndarray) -> np.ndarray:
    """Return the keys of images, uint8 (n, H, W, C) before they are resized: uint64 (n,)."""
    return np.array([content_key(sha256(image.tobytes()).digest()) for image in images], np.uint64)


def reason(error: Exception) -> str:
    """Return what went wrong in one line, without the path that the message names already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def reading(path: object, expected: str) -> Iterator[None]:
    """Turn what readers raise for a bad file into the user's error that names it.

    Args:
        path: the file that the block reads.
        expected: what a good file is.
    """
    try:
        yield
    except BROKEN as error:
        raise unexpected(str(path), f"an unreadable file ({reason(error)})", expected) from error


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacking it when its first bytes are those of a packer, whatever it is called.

    Behind the block it is read to its end, where the packer's checksum is.
    """
    with open(path, "rb") as stream:
        start = stream.read(max(map(len, PACKED)))
    opener = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)
    with open(path, "rb") if opener is None else opener(path) as stream:
        yield stream
        while stream.read(CHUNK_BYTES):
            pass


def check_plain(path: Path) -> os.stat_result:
    """Return the status of a file; refuse a pipe, which would be waited for, and a device, which has no end.

    Raises:
        OSError: there is no such file.
        ValueError: it is none.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a pipe, a device or a folder")
    return status


def modified(root: Path, files: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield each file's relative path, size in bytes and time of change in nanoseconds.

    Raises:
        UserError: a file is gone or out of reach, such as a link that leads nowhere.
    """
    for file in files:
        with reading(root / file, "a file that can be read"):
            status = check_plain(root / file)
        yield file, status.st_size, status.st_mtime_ns


def check_labels(field: str, labels: np.ndarray, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as int64 (N,) with the numbers 0 to their maximum as class names.

    Args:
        field: where the labels came from, for the error message.
        labels: what was found there.
        count: number of images N.

    Raises:
        UserError: they are no integers, not one per image, or no class numbers.
    """
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        found = f"{labels.dtype} of shape {labels.shape}"
        raise unexpected(field, found, f"integers of shape ({count},), one per image")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise unexpected(field, f"labels from {low} to {high}", f"class numbers from 0 to {MAX_CLASSES - 1}")
    return labels.astype(np.int64), tuple(str(number) for number in range(high + 1))


def chunk_length(image_shape: tuple[int, ...]) -> int:
    """Return how many uint8 images of ``image_shape`` to read at a time, at least one."""
    return max(1, CHUNK_BYTES // int(np.prod(image_shape, dtype=np.int64)))


def stream_images(stream, shape: tuple[int, int, int, int], field: str) -> Iterator[np.ndarray]:
    """Read the pixels of a file from its current position to its end, a few megabytes at a time.

    Args:
        stream: binary file at its first pixel.
        shape: (N, H, W, C) that the header announced; axes in C order, one byte each.
        field: the file's name, for the error message.

    Yields:
        uint8 (n, H, W, C).

    Raises:
        UserError: the file ends early, or goes on after the last image.
    """
    count, *image_shape = shape
    image_bytes = int(np.prod(image_shape, dtype=np.int64))
    length = chunk_length(tuple(image_shape))
    for start in range(0, count, length):
        wanted = min(length, count - start) * image_bytes
        with reading(field, f"{count} complete images"):
            block = stream.read(wanted)
        if len(block) < wanted:
            found = f"the end of the file after {start + len(block) // image_bytes} images"
            raise unexpected(field, found, f"{count} images, as its header says")
        yield np.frombuffer(block, np.uint8).reshape(-1, *image_shape)
    with reading(field, f"{count} complete images"):
        # Reading on to the end also makes gzip and zip compare their checksums.
        rest = stream.read(1)
    if rest:
        raise UserError(f"{field}: found more bytes after its last image, expected {count} images only")
