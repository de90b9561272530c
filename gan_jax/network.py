"""A linen module together with its variables, as one value: what torch's nn.Module is by itself."""

import inspect
from typing import Any

from flax import linen as nn
from flax import struct


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


def told_arguments(module: nn.Module, labels: Any, condition: Any, train: bool) -> dict[str, Any]:
    """Return what ``module`` is told beside its input: what there is of the two, and the mode where it has one."""
    mode = {"train": train} if "train" in inspect.signature(type(module).__call__).parameters else {}
    told = {"labels": labels, "condition": condition}
    return {**mode, **{name: value for name, value in told.items() if value is not None}}
