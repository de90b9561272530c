"""What a step reports to an observer, and the observer that records it (``gan_torch/step_trace.py``)."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeVar

import numpy as np

Named = Mapping[str, np.ndarray]
# The tensors of one network, as a backend holds them.
Tensors = TypeVar("Tensors")
TensorsReported = TypeVar("TensorsReported", contravariant=True)


class Observer(Protocol[TensorsReported]):
    """Called by a step with the gradients of each network and with its parameters after each update."""

    def __call__(self, kind: Literal["gradient", "update"], network: str, tensors: TensorsReported) -> None:
        """Take the tensors, which must not be changed.

        Args:
            kind: ``gradient`` before an update, ``update`` after it.
            network: ``generator`` or ``discriminator``.
            tensors: the gradients, or the updated parameters; the next update may change them in place.
        """
        ...


def update_recorder(
    recorded: dict[str, np.ndarray], parameters: Mapping[str, Named], to_numpy: Callable[[Tensors], Named]
) -> Observer[Tensors]:
    """Return an observer that records gradients, and what updates add.

    Args:
        recorded: where values are put, as ``gradient/NETWORK.U/PARAMETER`` and ``update/NETWORK.U/PARAMETER`` of the
            network's U-th update.
        parameters: of each network before its first update, by torch's names.
        to_numpy: copies what the step reports, by the same names.
    """
    before, updates = dict(parameters), Counter[str]()

    def observe(kind: Literal["gradient", "update"], network: str, tensors: Tensors) -> None:
        named = to_numpy(tensors)
        if kind == "update":
            named, before[network] = {name: named[name] - before[network][name] for name in named}, named
        recorded.update({f"{kind}/{network}.{updates[network]}/{name}": value for name, value in named.items()})
        updates[network] += kind == "update"

    return observe
