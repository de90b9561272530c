"""What a network makes of real images, kept in the cache folder, as it is the same in every evaluation.

evaluation/KEY-reference.safetensors    features of the images that generated ones are compared with, and the floors
evaluation/KEY-other.safetensors        features of those that take the place of generated ones, where there are any
"""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gan_shared.atomic import replacing
from gan_shared.data import cache
from gan_shared.feature_networks import FeatureSet


class RealFeatures(NamedTuple):
    """What a network makes of ``real_images.RealSets``.

    Attributes:
        reference: of the images that generated ones are compared with.
        other: of those that take the place of generated ones; None where there are none.
        floors: what ``other`` scores there, by name.
    """

    reference: FeatureSet
    other: FeatureSet | None
    floors: dict[str, float]


def read(key: str) -> RealFeatures | None:
    """Return what was written under a key; None where there is nothing, or a file is damaged."""
    try:
        reference, metadata = _read_set(_path(key, "reference"))
        other = _read_set(_path(key, "other"))[0] if json.loads(metadata["other"]) else None
        return RealFeatures(reference, other, json.loads(metadata["floors"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def write(key: str, found: RealFeatures) -> None:
    """Write features and floors for the next time; a full disk costs only that they are computed again."""
    metadata = {"floors": json.dumps(found.floors), "other": json.dumps(found.other is not None)}
    try:
        # The reference names the other file, so it comes last.
        if found.other is not None:
            _write_set(_path(key, "other"), found.other, {})
        _write_set(_path(key, "reference"), found.reference, metadata)
    except (OSError, SafetensorError):
        return


def _path(key: str, name: str) -> Path:
    """Return the file of one set."""
    return cache.root() / "evaluation" / f"{key}-{name}.safetensors"


def _read_set(path: Path) -> tuple[FeatureSet, dict[str, str]]:
    """Return the features in a file, and its metadata."""
    with safe_open(path, framework="numpy") as file:
        return FeatureSet(*(file.get_tensor(part) for part in FeatureSet._fields)), file.metadata() or {}


def _write_set(path: Path, features: FeatureSet, metadata: dict[str, str]) -> None:
    """Write the features of one set: each set has a file of its own because writing one copies it in memory."""
    with replacing(path) as temporary:
        save_file(features._asdict(), temporary, metadata=metadata)
        # safetensors makes its files for their owner alone; these are shared like any other.
        temporary.chmod(path.parent.stat().st_mode & 0o666)
