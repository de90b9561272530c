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
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from gan_jax import interop
from gan_jax import state as states
from gan_shared.checkpoint import TRAINED
from gan_shared.trace import listening

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
    networks = {name: player.module for name, player in players.items() if player is not None}
    with listening(seen, before, to_numpy), watched(networks, seen):
        state, scalars = step(state, inputs, knobs)
    seen |= {f"scalar/{name}": np.array(value) for name, value in scalars.items()}
    seen["scalar/first_non_finite_step"] = seen["scalar/first_non_finite_step"].astype(np.int64)  # as torch counts
    return seen | {f"state/{name}": value for name, value in states.export(state).items()}


@contextmanager
def watched(networks: Mapping[str, nn.Module], seen: dict[str, np.ndarray]) -> Iterator[None]:
    """Record what the modules of networks get and make, and the gradients of both, while the block runs.

    Args:
        networks: by name.
        seen: where values are put, by the names of this module's docstring.
    """
    forwards: Counter[str] = Counter()
    names = {type(module): name for name, module in networks.items()}
    current = ""

    def tap(kinds: tuple[str, str], network: str, path: str, value: Any) -> Any:
        """Record an array and its gradients; the result is to be used in its place."""
        if not isinstance(value, Array) or not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        (ahead, back), key, passes = kinds, f"{network}.{forwards[network] - 1}", Counter()

        def record(gradient: Any) -> None:
            seen[f"{back}/{key}.{passes[back]}/{path}"] = to_nhwc(gradient)
            passes[back] += 1

        return _tap(lambda each: seen.update({f"{ahead}/{key}/{path}": to_nhwc(each)}), record, value)

    def intercept(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        nonlocal current
        module, path = context.module, ".".join(context.module.path)
        if context.method_name != "__call__":
            return call(*arguments, **options)
        if not path and type(module) in names:
            current = names[type(module)]
            forwards.update([current])
        network = current
        given = tuple(tap(INPUT, network, path, value) for value in arguments[:1])
        return tap(OUTPUT, network, path, call(*given, *arguments[1:], **options))

    with nn.intercept_methods(intercept):
        yield


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _tap(ahead: Callable[[Any], None], back: Callable[[Any], None], value: Array) -> Array:
    """Return ``value``, told to ``ahead``; its gradient is told to ``back``."""
    jax.debug.callback(ahead, value)
    return value


def _tap_fwd(ahead, back, value):
    # Tapped again, for the derivative of a derivative.
    return _tap(ahead, back, value), None


def _tap_bwd(ahead, back, saved, gradient):
    del ahead, saved
    jax.debug.callback(back, gradient)
    return (gradient,)


_tap.defvjp(_tap_fwd, _tap_bwd)


def named_parameters(state: states.State, network: str) -> dict[str, np.ndarray]:
    """Copy the parameters of a network of a state, by torch's names."""
    return to_numpy(getattr(state, network).parameters)


def to_numpy(tensors: Any) -> dict[str, np.ndarray]:
    """Copy named tensors to NumPy, by torch's names and in its layouts."""
    return interop.to_torch(tensors)


def to_nhwc(value: Any) -> np.ndarray:
    """Copy an activation or its gradient to NumPy; (batch, height, width, channel) where it is a map."""
    return np.array(value, np.float32 if value.dtype == jnp.bfloat16 else None)
