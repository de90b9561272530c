"""Small image files for the tests of the data layer, and how a refusal is checked."""

import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gan_shared.data import load, load_held_out
from gan_shared.errors import UserError


def noise(*shape: int) -> np.ndarray:
    """Return uint8 noise, the same at every call."""
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    """Return an IDX file that holds ``values``."""
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def saved(path: Path, values: np.ndarray) -> Path:
    """Write a .npy file; objects are pickled into it, as a hostile file may hold them."""
    np.save(path, values, allow_pickle=True)
    return path


def refused(data: object, *words: str, resolution: int = 32) -> str:
    """Require one line of error that holds all words, and return it."""
    with pytest.raises(UserError) as caught:
        load(str(data), resolution, None)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def refused_held_out(data: object, holdout: float = 0.0) -> str:
    """Require one line of error when the held-out images are asked for, and return it."""
    with pytest.raises(UserError) as caught:
        load_held_out(str(data), 32, None, holdout)
    message = str(caught.value)
    assert "\n" not in message
    return message


def cifar_files(labels: np.ndarray, images: np.ndarray) -> dict[str, bytes]:
    """Two batches in CIFAR-10's layout, written by the description: label, then R, G and B row by row."""
    records = [
        bytes([label]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))
        for label, image in zip(labels, images, strict=True)
    ]
    return {"data_batch_1.bin": b"".join(records[:3]), "data_batch_2.bin": b"".join(records[3:])}


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    """Write CIFAR-10's archive, its files in another order."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in reversed(files.items()):
            info = tarfile.TarInfo(f"../cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
