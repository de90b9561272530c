"""Initial weights from names, shapes and declared distributions (law 5: randomness is data).

A layer declares how each of its tensors begins; a backend hands over ``{name: (torch shape, initial)}``;
the numbers are drawn here. Each tensor has its own Philox stream, keyed by the seed and a hash of network
and name, so that neither the order of layers nor a layer added elsewhere changes it.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np


class Initial(NamedTuple):
    """How a tensor begins.

    Attributes:
        distribution: ``constant``, ``normal``, ``uniform``, or ``left_singular`` and ``right_singular``: the vectors
            u and v by which spectral normalisation follows the largest singular value of the same layer's weight.
        gain: standard deviation of the normal, half the width of the uniform; unused by the others.
        mean: centre of the normal and of the uniform, or the constant itself.
    """

    distribution: Literal["constant", "normal", "uniform", "left_singular", "right_singular"]
    gain: float = 0.0
    mean: float = 0.0


ZEROS = Initial("constant", mean=0.0)
ONES = Initial("constant", mean=1.0)
LEFT = Initial("left_singular")
RIGHT = Initial("right_singular")

# torch.nn.utils.parametrizations.spectral_norm begins with as many iterations, and divides by norms no smaller.
SINGULAR_ITERATIONS = 15
SINGULAR_EPSILON = 1e-12


def glorot_uniform(fan_in: int, fan_out: int, gain: float = 1.0) -> Initial:
    """Return the uniform of variance gain^2 2 / (fan_in + fan_out), around 0 (Glorot and Bengio 2010)."""
    return Initial("uniform", gain=gain * math.sqrt(6 / (fan_in + fan_out)))


def fan_in_normal(fan_in: int, gain: float = 1.0) -> Initial:
    """Return the normal of standard deviation gain / sqrt(fan_in), around 0."""
    return Initial("normal", gain=gain / math.sqrt(fan_in))


def tensor(seed: int, network: str, name: str, shape: tuple[int, ...], initial: Initial) -> np.ndarray:
    """Draw one initial tensor that depends on no other.

    Args:
        seed: the run's seed.
        network: name of the network that owns it.
        name: the tensor's canonical name in that network.
        shape: its shape in torch's layout.
        initial: its declared distribution.

    Returns:
        float32 of ``shape``; scaled in float64, rounded once, so that every precision begins alike.
    """
    if initial.distribution == "constant":
        return np.full(shape, initial.mean, np.float32)
    generator = _generator(seed, network, name)
    if initial.distribution == "normal":
        values = generator.standard_normal(shape)
    elif initial.distribution == "uniform":
        values = 2 * generator.random(shape) - 1
    else:
        raise ValueError(f"{name}: {initial.distribution} follows from a weight, see tensors")
    return (initial.mean + initial.gain * values).astype(np.float32)


def tensors(seed: int, network: str, declared: Mapping[str, tuple[tuple[int, ...], Initial]]) -> dict[str, np.ndarray]:
    """Draw the initial tensors of one network; see ``tensor``.

    Singular vectors come last, by power iterations on the weight beside them as it was rounded.
    """
    drawn = {}
    for name, (shape, initial) in declared.items():
        if initial not in (LEFT, RIGHT):
            drawn[name] = tensor(seed, network, name, shape, initial)
    for name, (_, initial) in declared.items():
        if initial in (LEFT, RIGHT):
            # ``weight_u`` and ``weight_v`` stand beside ``weight``; both iterate from v's own stream.
            weight = name[: -len("_u")]
            start = _generator(seed, network, f"{weight}_v").standard_normal(drawn[weight][0].size)
            drawn[name] = _singular(drawn[weight], start)[initial == RIGHT].astype(np.float32)
    return {name: drawn[name] for name in declared}


def _generator(seed: int, network: str, name: str) -> np.random.Generator:
    """Return the stream of one tensor."""
    digest = hashlib.sha256(f"{network}/{name}".encode()).digest()
    # The second key word sets weights apart from the draws of draws.py, whose second word is 0.
    key = np.array([seed, int.from_bytes(digest[:8], "little") | 1], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def _singular(weight: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Approach the first singular vectors u and v of a weight (out, ...), in torch's order, in float64.

    Only v need be given: the first iteration replaces u.
    """
    matrix = weight.astype(np.float64).reshape(weight.shape[0], -1)
    u, v = np.zeros(matrix.shape[0]), _unit(start)
    for _ in range(SINGULAR_ITERATIONS):
        u = _unit(matrix @ v)
        v = _unit(u @ matrix)
    return u, v


def _unit(vector: np.ndarray) -> np.ndarray:
    """Divide by the norm."""
    return vector / max(float(np.linalg.norm(vector)), SINGULAR_EPSILON)
