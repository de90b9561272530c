"""Initial weights from names, shapes and declared distributions (law 5: randomness is data).

A layer declares how each of its tensors begins; a backend hands over ``{name: (torch shape, initial)}``;
the numbers are drawn here. Each tensor has its own Philox stream, keyed by the seed and a hash of network
and name, so that neither the order of layers nor a layer added elsewhere changes it.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np


class Initial(NamedTuple):
    """How a tensor begins.

    Attributes:
        distribution: ``constant`` or ``normal``.
        gain: standard deviation of the normal; unused by a constant.
        mean: centre of the normal, or the constant itself.
    """

    distribution: Literal["constant", "normal"]
    gain: float = 0.0
    mean: float = 0.0


ZEROS = Initial("constant", mean=0.0)
ONES = Initial("constant", mean=1.0)


def tensor(seed: int, network: str, name: str, shape: tuple[int, ...], initial: Initial) -> np.ndarray:
    """Draw one initial tensor.

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
    digest = hashlib.sha256(f"{network}/{name}".encode()).digest()
    # The second key word sets weights apart from the draws of draws.py, whose second word is 0.
    key = np.array([seed, int.from_bytes(digest[:8], "little") | 1], np.uint64)
    values = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape)
    return (initial.mean + initial.gain * values).astype(np.float32)


def tensors(seed: int, network: str, declared: Mapping[str, tuple[tuple[int, ...], Initial]]) -> dict[str, np.ndarray]:
    """Draw the initial tensors of one network; see ``tensor``."""
    return {name: tensor(seed, network, name, shape, initial) for name, (shape, initial) in declared.items()}
