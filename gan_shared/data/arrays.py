"""Images that are arrays already: NumPy's .npy and .npz files, read piece by piece."""

import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_shared.data.picture import MNIST_BORDER, MNIST_SIDE, check_size, resized
from gan_shared.data.source import (
    Chunk,
    Contents,
    Source,
    check_labels,
    chunk_length,
    pixel_keys,
    reading,
    stream_images,
)
from gan_shared.errors import unexpected
from gan_shared.pictures import to_pillow

Shape = tuple[int, int, int, int]
# Names of images and their labels in .npz files: this project's, those of Keras' data sets, MedMNIST's.
ARRAYS = {"images": "labels", "x_train": "y_train", "train_images": "train_labels"}
# More than any disk holds, and few enough for their bytes to be counted in 64 bits.
MAX_IMAGES = 2**36
EXPECTED_SHAPE = "(N, H, W), (N, H, W, 1) or (N, H, W, 3)"


def checked_shape(field: str, shape: tuple[int, ...]) -> Shape:
    """Return the shape of an array of images as (N, H, W, C).

    Args:
        field: the file or array, for the error message.
        shape: what its header says.

    Raises:
        UserError: there are no images, or the axes are not those of images.
    """
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise unexpected(field, f"shape {shape}", f"images of shape {EXPECTED_SHAPE}")
    if not 1 <= shape[0] <= MAX_IMAGES:
        raise unexpected(field, f"{shape[0]} images (shape {shape})", f"a number from 1 to {MAX_IMAGES}")
    check_size(field, shape[2], shape[1])
    return shape[0], shape[1], shape[2], shape[3] if len(shape) == 4 else 1


def resized_images(images: np.ndarray, resolution: int, channels: int) -> np.ndarray:
    """Bring images, uint8 (n, H, W, C), to (n, resolution, resolution, channels).

    28-pixel images (the MNIST family) get a border of zeros to 32 pixels, as the networks of powers of two
    expect, unless 28 is asked for. Whatever is still of another size is cut and resized as pictures are.
    """
    if images.shape[1:3] == (MNIST_SIDE, MNIST_SIDE) and resolution != MNIST_SIDE:
        border = (MNIST_BORDER, MNIST_BORDER)
        images = np.pad(images, ((0, 0), border, border, (0, 0)))
    if images.shape[1:] != (resolution, resolution, channels):
        images = np.stack([resized(to_pillow(image), resolution, channels) for image in images])
    return images


def resized_chunks(blocks: Iterator[np.ndarray], resolution: int, channels: int) -> Iterator[Chunk]:
    """Yield blocks of images, each uint8 (n, H, W, C), as ``resized_images`` brings them to a size, with their keys."""
    for images in blocks:
        keys = pixel_keys(images)
        yield Chunk(resized_images(images, resolution, channels), keys)


def npy_source(path: Path) -> Source:
    """Describe a .npy file of uint8 images from its header.

    Raises:
        UserError: it is damaged, holds anything but uint8, or is not shaped like images.
    """
    with reading(path, "a .npy file"), open(path, "rb") as stream:
        shape, _, dtype = _header(stream)
        size = os.fstat(stream.fileno()).st_size - stream.tell()
    full = checked_shape(str(path), _uint8(str(path), dtype, shape))
    if size > math.prod(full):
        raise unexpected(str(path), f"{size - math.prod(full):,} bytes after its last image", f"{full[0]} images only")

    def read(resolution: int, channels: int) -> Contents:
        with reading(path, "a complete .npy file"):
            # A map reads either order of axes, and no more than is looked at.
            images = np.load(path, mmap_mode="r", allow_pickle=False).reshape(full)
        length = chunk_length(full[1:])
        blocks = (np.array(images[start : start + length]) for start in range(0, full[0], length))
        return Contents(full[0], resized_chunks(blocks, resolution, channels), None, ())

    return Source("npy", path.parent, (path.name,), full[3], read)


def npz_source(path: Path) -> Source:
    """Describe a .npz file: images and perhaps labels under one of the pairs of names in ``ARRAYS``.

    An array of another name is taken where it is the only one beside ``labels``.

    Raises:
        UserError: it is damaged, it is not clear which array holds the images, or that is of the wrong type or shape.
    """
    with reading(path, "a .npz file"), zipfile.ZipFile(path) as archive:
        names = [info.filename[:-4] for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(set(names)) < len(names):
            raise unexpected(str(path), f"the arrays {', '.join(names)}", "names that stand for one array each")
        name, labels_name = _chosen(path, names)
        full = _member_shape(archive, name, f"{path}: {name}")

    def read(resolution: int, channels: int) -> Contents:
        chunks = resized_chunks(_member_images(path, name, full), resolution, channels)
        labels, classes = (None, ()) if labels_name is None else _labels(path, labels_name, full[0])
        return Contents(full[0], chunks, labels, classes)

    left_out = [each for each in names if each not in (name, labels_name)]
    parts = [f"{full[0]:,} images: the array {name}", f"classes: {labels_name}" if labels_name else ""]
    about = "; ".join([part for part in parts if part] + ([f"{', '.join(left_out)} left out"] if left_out else []))
    no_labels = "" if labels_name else f"no array {_labels_of(name)}"
    return Source("npz", path.parent, (path.name,), full[3], read, about, no_labels)


def _chosen(path: Path, names: list[str]) -> tuple[str, str | None]:
    """Return the names of the arrays that hold the images and the labels, if there are labels.

    Raises:
        UserError: several may hold the images, or none.
    """
    known = [name for name in ARRAYS if name in names]
    candidates = known or [name for name in names if name != "labels"]
    if len(candidates) != 1:
        pairs = [f"{images} and {labels}" for images, labels in ARRAYS.items()]
        raise unexpected(str(path), f"the arrays {', '.join(names) or '(none)'}", "one array of images", pairs)
    labels = _labels_of(candidates[0])
    return candidates[0], labels if labels in names else None


def _labels_of(name: str) -> str:
    """Return the name of the labels of an array of images."""
    return ARRAYS.get(name, "labels")


def _header(stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read a .npy header: shape, whether the first axis varies fastest, dtype; no value is read.

    Raises:
        ValueError: it is none.
    """
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"header version {version}, which plain arrays do not have")
    shape, fortran_order, dtype = readers[version](stream)
    if not all(type(length) is int and length >= 0 for length in shape):  # NumPy's check takes True for 1
        raise ValueError(f"the shape {shape}, which is none")
    return shape, fortran_order, dtype


def _uint8(field: str, dtype: np.dtype, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``shape`` when the values are uint8 and refuse all others; objects are never unpickled."""
    if dtype.hasobject:
        raise unexpected(field, "pickled Python objects, which are never loaded", "uint8 values")
    if dtype != np.uint8:
        raise unexpected(field, f"{dtype} values", "uint8 values from 0 to 255")
    return shape


def _member_shape(archive: zipfile.ZipFile, name: str, field: str) -> Shape:
    """Return the (N, H, W, C) of one array in a .npz file, after checking that its size fits."""
    with archive.open(f"{name}.npy") as stream:
        shape, fortran_order, dtype = _header(stream)
        start = stream.tell()
    full = checked_shape(field, _uint8(field, dtype, shape))
    if fortran_order:
        raise unexpected(field, "axes in Fortran order", "C order (save np.ascontiguousarray of it)")
    found, wanted = archive.getinfo(f"{name}.npy").file_size - start, full[0] * full[1] * full[2] * full[3]
    if found != wanted:
        raise unexpected(field, f"{found} bytes of pixels", f"{wanted}, as its header says")
    return full


def _member_images(path: Path, name: str, shape: Shape) -> Iterator[np.ndarray]:
    """Yield the images of one array in a .npz file without unpacking it whole: uint8 (n, H, W, C)."""
    field = f"{path}: {name}"
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        _header(stream)
        yield from stream_images(stream, shape, field)


def _labels(path: Path, name: str, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels of a .npz file and their class names, the header being checked before the values."""
    field = f"{path}: {name}"
    with reading(field, f"integers of shape ({count},)"), zipfile.ZipFile(path) as archive:
        with archive.open(f"{name}.npy") as stream:
            shape, _, dtype = _header(stream)
        if dtype.kind not in "iu" or shape not in ((count,), (count, 1)):
            found = "pickled Python objects, which are never loaded" if dtype.hasobject else str(dtype)
            raise unexpected(field, f"{found} of shape {shape}", f"integers of shape ({count},)")
        with archive.open(f"{name}.npy") as stream:
            labels = np.lib.format.read_array(stream, allow_pickle=False)
    return check_labels(field, labels.reshape(-1), count)
