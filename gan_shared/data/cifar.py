"""CIFAR-10 in its binary version, from the archive or from the folder that it unpacks to.

A record is one byte of label and 3,072 bytes of pixels: the red, green and blue planes of 32x32 pixels, row
by row (https://www.cs.toronto.edu/~kriz/cifar.html). Krizhevsky 2009, "Learning Multiple Layers of Features
from Tiny Images". The training images are those in data_batch_1.bin to data_batch_5.bin, those of the test
split in test_batch.bin.
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from gan_shared.data.arrays import resized_chunks
from gan_shared.data.source import Contents, Source, reading, unpacked
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
# Names of the files of each split.
TRAINING = re.compile(r"data_batch_\d+\.bin")
TEST = re.compile(r"test_batch\.bin")
NAMES = {TRAINING: "data_batch_*.bin", TEST: "test_batch.bin"}
BATCHES = 5
RECORD_BYTES = 1 + 3 * 32 * 32
RECORDS_AT_A_TIME = 1000
EXPECTED = "CIFAR-10's binary version"


def source(path: Path, batches: re.Pattern[str] = TRAINING) -> Source:
    """Describe CIFAR-10's archive (.tar.gz) or the folder of its .bin files; nothing is unpacked to the disk.

    Args:
        path: the archive or the folder.
        batches: the names of the files to read: ``TRAINING`` or ``TEST``.

    Raises:
        UserError: when read: there is no batch, or a file is damaged.
    """
    if path.is_dir():
        root, files = path, tuple(sorted(each.name for each in path.iterdir() if batches.fullmatch(each.name)))
    else:
        root, files = path.parent, (path.name,)
    missing = path.is_dir() and batches is TRAINING and len(files) < BATCHES
    about = f"{len(files)} of {BATCHES} batches: {', '.join(files)}" if missing else ""

    def read(resolution: int, channels: int) -> Contents:
        # The labels lie between the pixels: a first pass takes them and counts, a second takes the images.
        labels = [_labels(path, records) for records in _records(path, batches)]
        if not labels:
            raise unexpected(str(path), f"no {NAMES[batches]} in it", EXPECTED)
        all_labels = np.concatenate(labels)
        chunks = resized_chunks(map(_images, _records(path, batches)), resolution, channels)
        return Contents(len(all_labels), chunks, all_labels, CLASSES)

    # An archive is the same file for both splits, so the kind tells their entries of the cache apart.
    return Source("cifar" if batches is TRAINING else "cifar-test", root, files, 3, read, about)


def _records(path: Path, batches: re.Pattern[str]) -> Iterator[np.ndarray]:
    """Yield the records as uint8 (n, 3073), in the order of the batches.

    Raises:
        UserError: a file cannot be read, or ends within a record.
    """
    for name, stream in _batches(path, batches):
        while True:
            with reading(f"{path}: {name}", EXPECTED):
                block = stream.read(RECORDS_AT_A_TIME * RECORD_BYTES)
            if not block:
                break
            if len(block) % RECORD_BYTES:
                found = f"{len(block) % RECORD_BYTES} bytes after its last whole record"
                raise unexpected(f"{path}: {name}", found, f"records of {RECORD_BYTES} bytes")
            yield np.frombuffer(block, np.uint8).reshape(-1, RECORD_BYTES)


def _batches(path: Path, batches: re.Pattern[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of each batch, sorted by name."""
    with reading(path, EXPECTED):
        if path.is_dir():
            for file in sorted(each for each in path.iterdir() if batches.fullmatch(each.name)):
                with open(file, "rb") as stream:
                    yield file.name, stream
            return
        with unpacked(path) as packed, tarfile.open(fileobj=packed, mode="r:") as archive:
            members = [each for each in archive if each.isfile() and batches.fullmatch(Path(each.name).name)]
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
