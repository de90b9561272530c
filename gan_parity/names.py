"""Which module of a port is which module in torch, and which tensor which."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from gan_jax.interop import torch_name
from gan_shared.errors import unexpected

# A tensor's path in a port: the names of its modules, then its own.
Path = tuple[str, ...]

# Buffers of torch that Flax has no counterpart of, by their last names, with the reason why a port needs none.
ONLY_IN_TORCH = {
    "num_batches_tracked": "counts batches, which matters only where momentum is None",
    "weight_v": "linen.SpectralNorm computes v from u",
    "position_ids": "the numbers from 0 on, which a port makes when it needs them",
    "_extra_state": "what a module saves beside its tensors",
}
# Tensors of Flax that torch has no counterpart of, likewise.
ONLY_IN_FLAX = {
    "sigma": "linen.SpectralNorm keeps the norm that it has divided by; torch computes it from u and v",
}
# How torch names a weight under torch.nn.utils.parametrizations.spectral_norm, and under the older
# torch.nn.utils.spectral_norm; and what the same is called here.
PARAMETRIZED = {
    ".parametrizations.weight.original": ".weight",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
    ".weight_orig": ".weight",
}


class Names(NamedTuple):
    """The map from the modules of a port to those of torch.

    Attributes:
        given: path in the port -> path in torch, as far as they are known; both joined by dots.
        paths: of all modules in torch.
        tensors: names of all parameters and buffers in torch.
    """

    given: Mapping[str, str]
    paths: frozenset[str]
    tensors: frozenset[str]

    def module(self, path: Sequence[str]) -> str:
        """Return the path in torch of a module of the port; its own path, joined by dots, where torch has none."""
        for end in range(len(path), 0, -1):
            start = ".".join(path[:end])
            if start in self.given:
                return ".".join([self.given[start], *path[end:]]).strip(".")
        return next((each for each in candidates(path) if each in self.paths), ".".join(path))

    def tensor(self, path: Path) -> str:
        """Return torch's name of a tensor of the port; its own name, where torch has that too."""
        *modules, last = path
        if is_singular_vector(path):
            *layer, _, _ = last.split("/")
            return next(
                (name for end in (len(modules), len(modules) - 1) if (name := self._u(modules[:end], layer))),
                ".".join(path),
            )
        own = ".".join(filter(None, [self.module(modules), last]))
        return own if own in self.tensors and last != "kernel" else torch_name((*own.split(".")[:-1], last))

    def _u(self, modules: Sequence[str], layer: Sequence[str]) -> str:
        """Return the name of a layer's u in torch, or an empty string where there is none."""
        name = ".".join(filter(None, [self.module([*modules, *layer]), "weight_u"]))
        return name if name in self.tensors else ""

    def key(self, key: str) -> str:
        """Return the name that an activation of the port has in torch's trace."""
        kind, call, path = key.split("/", 2)
        return f"{kind}/{call}/{self.module(path.split('.')) if path else ''}"


def candidates(path: Sequence[str]) -> Iterable[str]:
    """Yield what torch may call a module of Flax: lists and sequences are numbered there (``blocks_0``: ``blocks.0``).

    The ``layers`` of a Sequential (``layers_0`` in linen, ``layers``, ``0`` in nnx) have no name of their own in torch.
    """
    options = []
    for part in path:
        head, _, number = part.rpartition("_")
        numbered = [(head, number)] if head and number.isdigit() else []
        if part == "layers":
            options.append([(part,), ()])
        else:
            options.append([(part,), *numbered, *([(number,)] if head == "layers" and numbered else [])])
    for chosen in product(*options):
        yield ".".join(name for names in chosen for name in names)


def pair_names(
    torch_modules: Sequence[str], port_modules: Sequence[Path], every: Names, given: Mapping[str, str]
) -> Names:
    """Return the map from a port's modules to torch's: by their paths, or in the order of calls where no path is alike.

    Args:
        torch_modules: those with tensors of their own, in the order in which they are called.
        port_modules: those of the port, likewise.
        every: the names of torch, nothing given.
        given: the names that the user gives: path in the port, joined by dots or slashes -> path in torch.

    Raises:
        UserError: a name that was given is not there, or no name is alike and the numbers of modules differ.
    """
    named = {port.replace("/", "."): module for port, module in given.items()}
    for module in named.values():
        if module not in every.paths:
            raise unexpected("names", module, "a module of torch's", sorted(filter(None, every.paths)))
    names = every._replace(given=named)
    if named or not port_modules or any(names.module(path) in torch_modules for path in port_modules):
        return names
    if len(port_modules) != len(torch_modules):
        found = ", ".join(".".join(path) for path in port_modules)
        expected = "names of torch's modules, or names={'path in the port': 'path in torch'}"
        raise unexpected("modules of the port", found, expected, torch_modules)
    in_order = zip(port_modules, torch_modules, strict=True)
    return every._replace(given={".".join(path): module for path, module in in_order})


def is_singular_vector(path: Path) -> bool:
    """Whether a tensor is the u of linen.SpectralNorm, (1, out), which torch has as (out,)."""
    return path[-1].endswith("/kernel/u")


def to_flax(array: np.ndarray, path: Path) -> np.ndarray:
    """Turn a tensor from torch's layout to Flax's: kernels from (out, in, *axes) to (*axes, in, out)."""
    if is_singular_vector(path):
        return array[None]
    turned = path[-1] == "kernel" and array.ndim > 1
    return np.asarray(array.transpose(*range(2, array.ndim), 1, 0) if turned else array, order="C")


def torch_axes(path: Path, rank: int) -> tuple[int, ...]:
    """Return the order in which torch has the axes of a tensor of Flax."""
    turned = path[-1] == "kernel" and rank > 1
    return (rank - 1, rank - 2, *range(rank - 2)) if turned else tuple(range(rank))


def to_torch(array: np.ndarray, path: Path) -> np.ndarray:
    """Turn a tensor from Flax's layout to torch's."""
    if is_singular_vector(path):
        return array.reshape(-1)
    return np.asarray(array.transpose(torch_axes(path, array.ndim)), order="C")


def canonical(name: str) -> str:
    """Return the name of a tensor of torch's state without the traces of a parametrization."""
    for end, plain in PARAMETRIZED.items():
        if name.endswith(end):
            return name.removesuffix(end) + plain
        if name == end[1:]:
            return plain[1:]
    return name


def without_counterpart(name: str) -> str:
    """Return why a tensor that only one framework has is no difference; an empty string where it is one."""
    last = name.replace("/", ".").rpartition(".")[2]
    return ONLY_IN_TORCH.get(last, "") or ONLY_IN_FLAX.get(last, "")
