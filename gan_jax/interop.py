"""torch's names and layouts <-> Flax variables, mechanically (law 6).

A path joined by dots is the name; ``kernel | scale | embedding`` are torch's ``weight``, ``mean | var`` its
``running_mean | running_var``. Kernels of four axes turn from HWIO to torch's OIHW, those of two are
transposed; a transposed convolution keeps the kernel of the convolution it transposes, so one rule serves
both. Integers are int64 outside and int32 here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct, traverse_util

from gan_shared.initial import Initial

TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}
TO_FLAX = {4: (2, 3, 1, 0), 2: (1, 0)}


class Declared(struct.PyTreeNode, nn.meta.AxisMetadata):
    """A tensor with the declaration of how it begins, as ``Module.init`` makes it.

    Attributes:
        value: a placeholder of the right shape and type.
        initial: how the tensor begins.
    """

    value: Any
    initial: Initial = struct.field(pytree_node=False)

    def unbox(self) -> Any:
        """Return the bare placeholder."""
        return self.value

    def replace_boxed(self, val: Any) -> "Declared":
        """Return the same declaration around another value."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Declared":
        """Keep the declaration: mapped layers begin each copy alike."""
        del index, params
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Declared":
        """Keep the declaration."""
        del index, params
        return self


def declare(initial: Initial) -> Callable[..., Any]:
    """Return a linen initialiser that draws nothing and carries ``initial``."""
    return lambda key, shape, dtype=jnp.float32: Declared(jnp.zeros(shape, dtype), initial)


def torch_name(path: tuple[str, ...]) -> str:
    """Return torch's name of a Flax path, its collection (``params``, ``batch_stats``) left out."""
    return ".".join((*path[:-1], TORCH_NAMES.get(path[-1], path[-1])))


def torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that the tensor at ``path`` has in torch."""
    return tuple(shape[axis] for axis in _axes(TO_TORCH, path, len(shape)))


def to_torch(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Copy a tree of one network (params, batch_stats or optimizer state) to NumPy, in torch's names and layouts."""
    tensors = {}
    for path, value in traverse_util.flatten_dict(tree).items():
        array = np.asarray(jax.device_get(value))
        array = array.transpose(_axes(TO_TORCH, path, array.ndim))
        wide = np.int64 if np.issubdtype(array.dtype, np.integer) else array.dtype
        # Always a copy: the device may reuse its buffer for the next state.
        tensors[torch_name(path)] = np.array(array, wide, order="C", copy=True)
    return tensors


def from_torch(tensors: Mapping[str, np.ndarray], like: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange torch's tensors as the tree ``like``, whose leaves give the types.

    Args:
        tensors: by torch's names, in torch's layouts; all that ``like`` needs must be there.
        like: tree of arrays or of their shapes and types.
    """
    wanted: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(like)
    leaves = {}
    for path, leaf in wanted.items():
        array = tensors[torch_name(path)]
        leaves[path] = np.array(array.transpose(_axes(TO_FLAX, path, array.ndim)), leaf.dtype, order="C")
    return traverse_util.unflatten_dict(leaves)


def _axes(table: Mapping[int, tuple[int, ...]], path: tuple[str, ...], rank: int) -> tuple[int, ...]:
    """Return the order of axes for a tensor: only kernels are laid out differently."""
    return table.get(rank, tuple(range(rank))) if path[-1] == "kernel" else tuple(range(rank))
