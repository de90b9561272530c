"""The weights of a VGG16: read from a file, or drawn from the run's seed; torchvision's names and layouts.

They are in no checkpoint: a run keeps the hash of their file. ``scripts/vgg_weights.py`` writes the file.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from math import prod, sqrt
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from gan_shared.architecture import vgg_plan
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.initial import Initial, fan_in_normal, tensor
from gan_shared.option_groups import RANDOM
from gan_shared.paths import expanded

# torchvision's preprocessing: mean and standard deviation of ImageNet's red, green and blue, from 0 to 1.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
HOW = f"the file that python scripts/vgg_weights.py writes, or {RANDOM} for features that are not pretrained"


def shapes(layer: str, width: float = 1.0) -> dict[str, tuple[int, ...]]:
    """Return name and shape, in torch's layout, of every tensor that a VGG16 needs up to ``layer``."""
    plan, result = vgg_plan(layer, width), {}
    for place, low, high in (convolution for block in plan.blocks for convolution in block):
        result |= {f"features.{place}.weight": (high, low, 3, 3), f"features.{place}.bias": (high,)}
    if plan.hidden:
        low, high = plan.hidden
        result |= {"classifier.0.weight": (high, low), "classifier.0.bias": (high,)}
    return result


def weight_initial(fan_in: int) -> Initial:
    """Return how a random weight begins: a rectified layer keeps the scale of its input (He et al. 2015)."""
    return fan_in_normal(fan_in, sqrt(2))


def width(config: Config) -> float:
    """Return the factor on the channels of a run's VGG16: published weights fit the published widths alone."""
    return config.networks.width if config.execution.vgg_weights == RANDOM else 1.0


def with_sha256(config: Config) -> Config:
    """Return the configuration of a run that has a VGG16 with the hash of its weights.

    Raises:
        UserError: there is no such file, or not the one that the run began with.
    """
    weights, expected = config.execution.vgg_weights, config.image_condition.vgg_sha256
    found = RANDOM if weights == RANDOM else _sha256(_file(config))
    if expected not in (None, found):
        raise unexpected("vgg_weights", f"{weights} with sha256 {found}", f"sha256 {expected}")
    return config.with_options(vgg_sha256=found)


def load(config: Config) -> dict[str, np.ndarray]:
    """Return the tensors of a run's VGG16 by torchvision's names, float32.

    Raises:
        UserError: there is no such file, or not the run's own, or it holds something else.
    """
    layer = config.image_condition.vgg_layer
    assert layer is not None, "a run without a VGG16 has no weights of one"
    with_sha256(config)
    wanted = shapes(layer, width(config))
    if config.execution.vgg_weights == RANDOM:
        return {name: _draw(config.training.seed, name, shape) for name, shape in wanted.items()}
    path = _file(config)
    try:
        with safe_open(path, framework="numpy") as file:
            held = set(file.keys())
            tensors = {name: file.get_tensor(name) for name in wanted if name in held}
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a type that NumPy has not
        raise unexpected("vgg_weights", f"{path}, which cannot be read ({error})", HOW) from error
    check(tensors, wanted, str(path))
    return tensors


def check(tensors: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Refuse what is not a VGG16.

    Raises:
        UserError: naming the first tensor that is missing, of another shape or type, or not finite.
    """
    for name, shape in wanted.items():
        found = tensors.get(name)
        if found is None:
            raise unexpected("vgg_weights", f"no {name} in {source}", "the tensors of torchvision's vgg16")
        if found.shape != shape or found.dtype != np.float32:
            raise unexpected("vgg_weights", f"{name} of {found.dtype} {found.shape}", f"float32 {shape}")
        if not np.isfinite(found).all():
            raise unexpected("vgg_weights", f"{name} with values that are not finite", "finite weights")


def _draw(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a random weight; biases are zero."""
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    return tensor(seed, "vgg16", name, shape, weight_initial(prod(shape[1:])))


def _file(config: Config) -> Path:
    """Return the file of a run's weights."""
    weights = config.execution.vgg_weights
    path = expanded(weights or "")
    if weights is None or not path.is_file():
        found = "none" if weights is None else f"no file {path}"
        raise unexpected("vgg_weights", found, HOW)
    return path


def _sha256(path: Path) -> str:
    """Return the hash of a file, which is read once as long as it stays as it is."""
    try:
        status = path.stat()
        return _hash(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise unexpected("vgg_weights", f"{path}, which cannot be read ({error.strerror})", HOW) from error


@lru_cache(maxsize=4)
def _hash(path: Path, size: int, changed: int) -> str:
    """Hash a file of a size and a time of change."""
    del size, changed
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
