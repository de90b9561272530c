"""What a step tells a trace, where one is taken: gradients, and parameters after an update (``gan_torch/trace.py``)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

Named = Mapping[str, np.ndarray]

# Who hears of a network's gradients and of its updated parameters; nobody outside of a trace.
_listener: ContextVar[Callable[[str, str, Any], None] | None] = ContextVar("listener", default=None)


def note(kind: str, network: str, tensors: Any) -> None:
    """Tell a trace, where one is taken, of a network's ``gradient``, or of its parameters after an ``update``."""
    listener = _listener.get()
    if listener is not None:
        listener(kind, network, tensors)


@contextmanager
def listening(
    seen: dict[str, np.ndarray], parameters: Mapping[str, Named], to_numpy: Callable[[Any], Named]
) -> Iterator[None]:
    """Record what the step notes while the block runs: gradients, and what updates add.

    Args:
        seen: where values are put, as ``gradient/NETWORK.U/PARAMETER`` and ``update/NETWORK.U/PARAMETER``.
        parameters: of each network before its first update, by torch's names.
        to_numpy: copies what is noted, by the same names.
    """
    before, updates = dict(parameters), Counter[str]()

    def listen(kind: str, network: str, tensors: Any) -> None:
        named = to_numpy(tensors)
        if kind == "update":
            named, before[network] = {name: named[name] - before[network][name] for name in named}, named
        seen.update({f"{kind}/{network}.{updates[network]}/{name}": value for name, value in named.items()})
        updates[network] += kind == "update"

    token = _listener.set(listen)
    try:
        yield
    finally:
        _listener.reset(token)
