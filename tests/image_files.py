"""Small image files for the tests of the data layer, and how a refusal is checked."""

import struct
from pathlib import Path

import numpy as np
import pytest

from gan_shared.data import load
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
