"""Every value of one step by name, in execution order: for whoever looks for the first that differs.

    input/NETWORK.N/MODULE             what a module got in the N-th forward of its network; "" is the network itself
    forward/NETWORK.N/MODULE           what it made of that
    backward/NETWORK.N.K/MODULE        the K-th gradient that came back to what it made
    returned/NETWORK.N.K/MODULE        the K-th gradient that it gave back to what it got
    gradient/NETWORK.U/PARAMETER       gradient of the network's U-th update
    update/NETWORK.U/PARAMETER         what that update added
    scalar/NAME                        what the step reports
    state/NAME                         everything that the step leaves, by canonical name

Activations are NHWC and parameters have torch's layouts, in both backends. Of a module that is called several times in
one forward, or again where activations are recomputed, one call is left. bfloat16 becomes float32.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan_shared.checkpoint import TRAINED
from gan_shared.trace import listening
from gan_torch import state as states

# What is recorded of a module's input and of its output: the value, and its gradients.
INPUT, OUTPUT = ("input", "returned"), ("forward", "backward")


def trace(step: Callable[..., Any], state: states.State, inputs: Any, knobs: Any) -> dict[str, np.ndarray]:
    """Play ``step`` once, not compiled, and return what it met.

    Args:
        step: (state, inputs, knobs) -> (state, scalars).
        state: the state to begin with; it must not be used again.
        inputs: of the step.
        knobs: of the step.
    """
    seen: dict[str, np.ndarray] = {}
    before = {network: named_parameters(state, network) for network in TRAINED}
    players = {name: getattr(state, name) for name in (*TRAINED, "vgg")}
    networks = {name: player for name, player in players.items() if player is not None}
    with listening(seen, before, to_numpy), watched(networks, seen):
        state, scalars = step(state, inputs, knobs)
    seen |= {f"scalar/{name}": np.asarray(value) for name, value in to_numpy(scalars).items()}
    return seen | {f"state/{name}": value for name, value in states.export(state).items()}


@contextmanager
def watched(networks: Mapping[str, nn.Module], seen: dict[str, np.ndarray]) -> Iterator[None]:
    """Record what the modules of networks get and make, and the gradients of both, while the block runs.

    Args:
        networks: by name.
        seen: where values are put, by the names of this module's docstring.
    """
    forwards: Counter[str] = Counter()
    handles: list[Any] = []

    def tap(kinds: tuple[str, str], network: str, path: str, value: Any) -> Any:
        """Record a tensor and its gradients; the result is to be used in its place."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        (ahead, back), key, passes = kinds, f"{network}.{forwards[network] - 1}", Counter()
        seen[f"{ahead}/{key}/{path}"] = to_nhwc(value)
        # A tensor of its own, whose gradient is that of this use alone.
        tapped = value.view_as(value)

        def record(gradient: Tensor | None) -> None:
            if gradient is None:
                return  # nothing comes back: it is zero everywhere
            seen[f"{back}/{key}.{passes[back]}/{path}"] = to_nhwc(gradient)
            passes[back] += 1

        if tapped.requires_grad:
            tapped.register_hook(record)
        return tapped

    def before(network: str, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: Any) -> Any:
            forwards.update([network] if not path else [])
            return (tap(INPUT, network, path, inputs[0]), *inputs[1:]) if inputs else inputs

        return hook

    def after(network: str, path: str) -> Callable[..., Any]:
        return lambda module, inputs, output: tap(OUTPUT, network, path, output)

    for name, network in networks.items():
        for path, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(before(name, path)))
            handles.append(module.register_forward_hook(after(name, path)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def named_parameters(state: states.State, network: str) -> dict[str, np.ndarray]:
    """Copy the parameters of a network of a state, by torch's names."""
    return to_numpy(dict(getattr(state, network).named_parameters()))


def to_numpy(tensors: Any) -> dict[str, np.ndarray]:
    """Copy named tensors to NumPy, by torch's names and in its layouts."""
    return {name: _wide(value).numpy().copy() for name, value in tensors.items()}


def to_nhwc(value: Any) -> np.ndarray:
    """Copy an activation or its gradient to NumPy; (batch, height, width, channel) where it is a map."""
    array = _wide(value).numpy().copy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _wide(value: Tensor) -> Tensor:
    """Bring a tensor to the host, in a type that NumPy has."""
    value = value.detach().cpu()
    return value.float() if value.dtype == torch.bfloat16 else value
