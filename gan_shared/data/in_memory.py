"""Images that a program gives: arrays, and data sets whose items are read by number, of PyTorch or Hugging Face.

Neither package is imported: what has ``features`` and ``column_names`` is taken for a data set of Hugging Face's
``datasets``, anything else with a length and items by number for one of PyTorch (``torch.utils.data.Dataset``).
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from gan_shared.data.arrays import checked_shape, resized_images
from gan_shared.data.dataset import Dataset
from gan_shared.data.picture import brought_to
from gan_shared.data.source import check_labels, reason
from gan_shared.errors import UserError, unexpected
from gan_shared.progress_bar import progress_bar

# What an item may be as an image.
IMAGE = "a PIL image, or uint8 (height, width), (height, width, channel) or (channel, height, width) of 1 or 3 channels"
# How far a floating-point pixel may be from one of 8 bits, in grey levels: float32 rounds by less.
LEVEL_TOLERANCE = 0.01

# An item: its image, and its label or None.
Example: TypeAlias = tuple[Any, Any]


class _Items(NamedTuple):
    """A data set whose items are read by number.

    Attributes:
        read: the number of an item -> image and label.
        length: number of items.
        class_names: of its labels; empty where it has no names.
    """

    read: Callable[[int], Example]
    length: int
    class_names: tuple[str, ...]


def is_array(images: object) -> bool:
    """Return whether images are an array, or lists of numbers, and no data set, which a list of images is too."""
    if isinstance(images, (list, tuple)) and images:
        first = images[0][0] if isinstance(images[0], tuple) and images[0] else images[0]
        return not (isinstance(first, Image.Image) or getattr(first, "ndim", 0) > 1)
    return isinstance(images, (np.ndarray, list, tuple)) or hasattr(images, "__array__")


def from_array(images: object, labels: object, name: str, resolution: int, channels: int) -> Dataset:
    """Return images in an array, as a set of a size.

    Args:
        images: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3).
        labels: integers (N,), or None.
        name: of the set.
        resolution: height and width of the set's images in pixels.
        channels: of the set's images.

    Raises:
        UserError: the images or labels cannot be used.
    """
    images = as_array("images", images)
    if images.dtype != np.uint8:
        raise unexpected("images", f"type {images.dtype}", "uint8, from 0 (black) to 255")
    shape = checked_shape("images", images.shape)
    decoded = np.array(resized_images(images.reshape(shape), resolution, channels))
    return _dataset(name, decoded, labels, ())


def from_items(images: Any, labels: object, name: str, resolution: int, channels: int) -> Dataset:
    """Read every item of a data set once, in order, as a set of a size.

    Args:
        images: of Hugging Face: one split, whose images are its column of type Image or its only column, and labels
            its column of type ClassLabel, or else ``label`` or ``labels``. Of PyTorch: items are images or (image,
            label); ``classes`` of it, or of the one that it is a Subset of, are the names of the classes. An image is
            ``IMAGE``, or of floating-point numbers as torchvision's ToTensor makes them (0 to 1), perhaps with
            Normalize(0.5, 0.5) behind it (-1 to 1): every pixel one of 8 bits, or they are refused.
        labels: integers (N,), where the data set has none.
        name: of the set.
        resolution: height and width of the set's images in pixels.
        channels: of the set's images.

    Raises:
        UserError: it is no such data set, or an item cannot be used.
    """
    items = _items(images)
    decoded = np.empty((items.length, resolution, resolution, channels), np.uint8)
    numbers: list[int | None] = []
    signed = np.zeros(items.length, bool)
    floating = np.zeros(items.length, bool)
    with progress_bar(total=items.length, desc="reading", unit=" images") as bar:
        for index in range(items.length):
            image, label = _item(items, index)
            pixels, floating[index], signed[index] = _pixels(f"images[{index}]", image, False)
            decoded[index] = _brought_to(f"images[{index}]", pixels, resolution, channels)
            numbers.append(_number(index, label))
            bar.update()
    # Of floating-point images from -1 to 1 those without a pixel below 0 were taken for ones from 0 to 1.
    for index in np.flatnonzero(floating & ~signed) if signed.any() else ():
        pixels, _, _ = _pixels(f"images[{index}]", _item(items, int(index))[0], True)
        decoded[index] = _brought_to(f"images[{index}]", pixels, resolution, channels)
    return _dataset(name, decoded, _labels(numbers, labels), items.class_names)


def as_array(name: str, value: object) -> np.ndarray:
    """Return what the user gave as an array.

    Raises:
        UserError: it is none, such as lists of different lengths.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise unexpected(name, "lists of different lengths", "an array of one shape") from error


def _dataset(name: str, decoded: np.ndarray, labels: object, class_names: Sequence[str]) -> Dataset:
    """Return decoded images and their labels as a set; classes without names go by their numbers."""
    digest, numbers, names = sha256(decoded.tobytes()), None, ()
    if labels is not None:
        numbers, names = check_labels("labels", as_array("labels", labels), len(decoded))
        digest.update(numbers.tobytes())
        names = tuple(class_names) if len(class_names) >= len(names) else names
    return Dataset(name, decoded, numbers, names, digest.hexdigest())


def _items(images: Any) -> _Items:
    """Return a data set's items.

    Raises:
        UserError: it has none that are read by number.
    """
    if isinstance(images, Mapping):  # DatasetDict
        raise unexpected("images", f"the splits {', '.join(map(str, images))}", "one of them, such as images['train']")
    if not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
        expected = "an array, a path, or a data set with a length whose items are read by number (a DataLoader's is "
        raise unexpected("images", f"a {type(images).__name__}", expected + "its .dataset)")
    if not len(images):
        raise unexpected("images", "0 images", "at least one")
    if hasattr(images, "features") and hasattr(images, "column_names"):
        return _hugging_face(images)
    return _Items(lambda index: _pair(index, images[index]), len(images), _classes(images))


def _hugging_face(images: Any) -> _Items:
    """Return the items of a data set of Hugging Face's ``datasets``."""
    features, columns = dict(images.features or {}), list(images.column_names)
    kinds = {name: type(features.get(name)).__name__ for name in columns}
    pictures = [name for name in columns if kinds[name] == "Image"] or (columns if len(columns) == 1 else [])
    if len(pictures) != 1:
        found = f"{len(pictures)} columns of images among {', '.join(columns)}"
        raise unexpected("images", found, "one of type Image, or a single column: see select_columns")
    labels = [name for name in columns if kinds[name] == "ClassLabel"]
    labels = labels or [name for name in ("label", "labels") if name in columns and name not in pictures]
    if len(labels) > 1:
        found = f"the columns of classes {', '.join(labels)}"
        raise unexpected("images", found, "one: see remove_columns")
    (picture,), label = pictures, labels[0] if labels else None
    names = _names(getattr(features.get(label), "names", None))

    def read(index: int) -> Example:
        row = images[index]
        return row[picture], None if label is None else row[label]

    return _Items(read, len(images), names)


def _classes(images: Any) -> tuple[str, ...]:
    """Return the names of the classes of a data set of PyTorch, or of the one that it is a part of."""
    for _ in range(8):  # Subsets of Subsets
        if names := _names(getattr(images, "classes", None)):
            return names
        images = getattr(images, "dataset", None)
    return ()


def _names(value: object) -> tuple[str, ...]:
    """Return names of classes where a value is a list of them, each once."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        return ()
    return tuple(value) if len(set(value)) == len(value) else ()


def _item(items: _Items, index: int) -> Example:
    """Read one item.

    Raises:
        UserError: the data set raises something.
    """
    try:
        return items.read(index)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        found = f"an item that raises {type(error).__name__}: {reason(error)}"
        raise unexpected(f"images[{index}]", found, "an image, or an image and its label") from error


def _pair(index: int, item: Any) -> Example:
    """Return image and label of an item of a data set of PyTorch."""
    if not isinstance(item, (tuple, list)):
        return item, None
    if len(item) == 1:
        return item[0], None
    if len(item) != 2:
        raise unexpected(f"images[{index}]", f"a {type(item).__name__} of {len(item)}", "an image, or (image, label)")
    return item[0], item[1]


def _number(index: int, label: Any) -> int | None:
    """Return a label as a number.

    Raises:
        UserError: it is none.
    """
    try:
        return None if label is None else operator.index(label)
    except TypeError as error:
        found = f"the label {label!r}"
        raise unexpected(f"images[{index}]", " ".join(found.split()), "a class number") from error


def _labels(numbers: Sequence[int | None], given: object) -> object:
    """Return the labels of a data set, or those that were given beside it.

    Raises:
        UserError: there are both, or some items have none.
    """
    missing = [index for index, number in enumerate(numbers) if number is None]
    if len(missing) == len(numbers):
        return given
    if missing:
        raise unexpected(f"images[{missing[0]}]", "no label", "one, as others have one")
    if given is not None:
        raise unexpected("labels", "an argument", "none, as the data set has labels of its own")
    return np.array(numbers)


def _pixels(field: str, image: Any, signed: bool) -> tuple[Image.Image | np.ndarray, bool, bool]:
    """Return the pixels of one image.

    Args:
        field: its name, for the error message.
        image: what the data set gave.
        signed: whether floating-point numbers are from -1 to 1 although none is below 0.

    Returns:
        A PIL image or uint8 (H, W, C); whether its numbers were floating-point; whether one of them was below 0.

    Raises:
        UserError: it is no image, or it is not clear what its numbers are.
    """
    if isinstance(image, Image.Image):
        return image, False, False
    try:
        array = np.asarray(image)
    except Exception as error:  # a tensor on a GPU, lists of different lengths
        raise unexpected(field, f"a {type(image).__name__} ({reason(error)})", IMAGE) from error
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise unexpected(field, f"a {type(image).__name__} of type {array.dtype}", IMAGE)
    array = _channels_last(field, array)
    checked_shape(field, (1, *array.shape))
    if array.dtype == np.uint8:
        return array, False, False
    signed = signed or bool((array < 0).any())
    wide = array.astype(np.float64)
    levels = (wide + 1) * 127.5 if signed else wide * 255
    whole = np.rint(levels)
    if not (np.abs(levels - whole) <= LEVEL_TOLERANCE).all() or whole.min() < 0 or whole.max() > 255:
        found = f"floating-point pixels from {array.min():.4g} to {array.max():.4g} that are none of 8 bits"
        expected = "uint8, or all k / 255 (0 to 1), or all k / 127.5 - 1 (-1 to 1): leave out other normalisation"
        raise unexpected(field, found, expected)
    return whole.astype(np.uint8), True, signed


def _channels_last(field: str, array: np.ndarray) -> np.ndarray:
    """Return an image as (H, W, C): the channels are the last axis of 1 or 3, or else the first.

    Both cannot be meant: no image has a side of 3 pixels (``check_size``).
    """
    if array.ndim == 2:
        return array[..., np.newaxis]
    if array.ndim == 3 and array.shape[2] in (1, 3):
        return array
    if array.ndim == 3 and array.shape[0] in (1, 3):
        return np.ascontiguousarray(np.moveaxis(array, 0, 2))
    raise unexpected(field, f"shape {array.shape}", IMAGE)


def _brought_to(field: str, pixels: Image.Image | np.ndarray, resolution: int, channels: int) -> np.ndarray:
    """Return one image at a size: uint8 (resolution, resolution, channels)."""
    if isinstance(pixels, Image.Image):
        return brought_to(pixels, field, resolution, channels)
    return resized_images(pixels[np.newaxis], resolution, channels)[0]
