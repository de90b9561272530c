"""A linen module together with its variables, as one value: what torch's nn.Module is by itself."""

import inspect
from typing import Any

from flax import linen as nn
from flax import struct
from jax import Array


class Network(struct.PyTreeNode):
    """A network that can be differentiated and donated; ``models.call`` applies it and changes nothing.

    Attributes:
        module: what it computes.
        parameters: what an optimiser moves: the collection ``params``.
        buffers: every other collection: running statistics and the vectors of spectral normalisation.
    """

    module: nn.Module = struct.field(pytree_node=False)
    parameters: dict[str, Any]
    buffers: dict[str, Any]


def call_kwargs(module: nn.Module, labels: Array | None, image_condition: Array | None, train: bool) -> dict[str, Any]:
    """Return the keyword arguments of a call of ``module``.

    Args:
        module: a module of this package or of the user's own.
        labels: (batch,), or None where there are none: the module need not have a parameter for them.
        image_condition: likewise.
        train: the mode, which a module without a parameter of that name does not get.
    """
    mode = {"train": train} if "train" in inspect.signature(type(module).__call__).parameters else {}
    given = {"labels": labels, "image_condition": image_condition}
    return {**mode, **{name: value for name, value in given.items() if value is not None}}
