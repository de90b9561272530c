"""CIFAR-10 in its binary version, from the archive or from the folder that it unpacks to.

A record is one byte of label and 3,072 bytes of pixels: the red, green and blue planes of 32x32 pixels, row
by row (https://www.cs.toronto.edu/~kriz/cifar.html). Krizhevsky 2009, "Learning Multiple Layers of Features
from Tiny Images". The training images are those in data_batch_1.bin to data_batch_5.bin.
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from gan_shared.data.arrays import resized_chunks
from gan_shared.data.source import Contents, Source, reading
from gan_shared.errors import unexpected

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
BATCH = re.compile(r"data_batch_\d+\.bin")
RECORD_BYTES = 1 + 3 * 32 * 32
RECORDS_AT_A_TIME = 1000
EXPECTED = "CIFAR-10's binary version"


def source(path: Path) -> Source:
    """Describe CIFAR-10's archive (.tar.gz) or the folder of its .bin files; nothing is unpacked to the disk.

    Raises:
        UserError: when read: there is no batch, or a file is damaged.
    """
    if path.is_dir():
        root, files = path, tuple(sorted(each.name for each in path.iterdir() if BATCH.fullmatch(each.name)))
    else:
        root, files = path.parent, (path.name,)

    def read(resolution: int, channels: int) -> Contents:
        # The labels lie between the pixels: a first pass takes them and counts, a second takes the images.
        labels = [_labels(path, records) for records in _records(path)]
        if not labels:
            raise unexpected(str(path), "no data_batch_*.bin in it", EXPECTED)
        all_labels = np.concatenate(labels)
        images = resized_chunks(map(_images, _records(path)), resolution, channels)
        return Contents(len(all_labels), images, all_labels, CLASSES)

    return Source("cifar", root, files, 3, read)


def _records(path: Path) -> Iterator[np.ndarray]:
    """Yield the records as uint8 (n, 3073), in the order of the batches.

    Raises:
        UserError: a file cannot be read, or ends within a record.
    """
    for name, stream in _batches(path):
        while True:
            with reading(f"{path}: {name}", EXPECTED):
                block = stream.read(RECORDS_AT_A_TIME * RECORD_BYTES)
            if not block:
                break
            if len(block) % RECORD_BYTES:
                found = f"{len(block) % RECORD_BYTES} bytes after its last whole record"
                raise unexpected(f"{path}: {name}", found, f"records of {RECORD_BYTES} bytes")
            yield np.frombuffer(block, np.uint8).reshape(-1, RECORD_BYTES)


def _batches(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of each batch, sorted by name."""
    with reading(path, EXPECTED):
        if path.is_dir():
            for file in sorted(each for each in path.iterdir() if BATCH.fullmatch(each.name)):
                with open(file, "rb") as stream:
                    yield file.name, stream
            return
        with tarfile.open(path, "r:gz") as archive:
            members = [each for each in archive if each.isfile() and BATCH.fullmatch(Path(each.name).name)]
            for member in sorted(members, key=lambda each: each.name):
                stream = archive.extractfile(member)
                if stream is not None:
                    yield Path(member.name).name, stream


def _labels(path: Path, records: np.ndarray) -> np.ndarray:
    """Return the labels of uint8 (n, 3073) records as int64 (n,)."""
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= len(CLASSES):
        raise unexpected(str(path), f"the label {labels.max()}", f"labels from 0 to 9, as in {EXPECTED}")
    return labels


def _images(records: np.ndarray) -> np.ndarray:
    """Return the pixels of uint8 (n, 3073) records as (n, 32, 32, 3): planes become colours of a pixel."""
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
