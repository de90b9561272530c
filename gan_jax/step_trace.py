"""Every value of one training step by name, in execution order, so that the first that differs can be found.

    input/NETWORK.N/MODULE             input of a module in the N-th forward of its network; "" is the network itself
    forward/NETWORK.N/MODULE           its output
    backward/NETWORK.N.K/MODULE        the K-th gradient at its output
    returned/NETWORK.N.K/MODULE        the K-th gradient at its input
    gradient/NETWORK.U/PARAMETER       gradient of the network's U-th update
    update/NETWORK.U/PARAMETER         what that update added
    scalar/NAME                        scalar that the step reports
    state/NAME                         tensor of the state after the step, by canonical name

Activations are NHWC and parameters have torch's layouts, in both backends. Of a module that is called several times in
one forward, or again by gradient checkpointing, the last call is kept. bfloat16 becomes float32.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping
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
from gan_jax.components import Components
from gan_jax.examples import StepInputs
from gan_jax.optimizers import Parameters
from gan_jax.step import make_step
from gan_shared.config import Config
from gan_shared.manifest import TRAINED
from gan_shared.schedules import ScheduleValues
from gan_shared.step_trace import update_recorder

# What is recorded of a module's input and of its output: the value, and its gradients.
INPUT, OUTPUT = ("input", "returned"), ("forward", "backward")


def record_step(
    config: Config,
    components: Components,
    state: states.State,
    inputs: StepInputs,
    schedule_values: ScheduleValues,
) -> dict[str, np.ndarray]:
    """Take one training step, not compiled, and return its values.

    Args:
        config: the run.
        components: its loss and optimisers.
        state: the state to begin with; it must not be used again.
        inputs: of the step.
        schedule_values: of the step.

    Returns:
        Arrays by the names of this module's docstring.
    """
    recorded: dict[str, np.ndarray] = {}
    before = {network: named_parameters(state, network) for network in TRAINED}
    networks: dict[str, nn.Module] = {name: getattr(state, name).module for name in TRAINED}
    if state.image_condition_network is not None:
        networks["image_condition"] = state.image_condition_network.module
    step = make_step(config, components, update_recorder(recorded, before, to_numpy))
    with record_modules(networks, recorded):
        state, scalars = step(state, inputs, schedule_values)
    recorded |= {f"scalar/{name}": np.array(value) for name, value in scalars.items()}
    recorded["scalar/first_non_finite_step"] = recorded["scalar/first_non_finite_step"].astype(np.int64)  # as in torch
    return recorded | {f"state/{name}": value for name, value in states.export(state).items()}


@contextmanager
def record_modules(networks: Mapping[str, nn.Module], recorded: dict[str, np.ndarray]) -> Generator[None]:
    """Record inputs and outputs of the modules of networks, and the gradients at both, while the block runs.

    Args:
        networks: by name.
        recorded: where values are put, by the names of this module's docstring.
    """
    forwards: Counter[str] = Counter()
    names = {type(module): name for name, module in networks.items()}
    current = ""

    def observe(kinds: tuple[str, str], network: str, path: str, value: Any) -> Any:
        """Record an array and its gradients; the result is to be used in its place."""
        if not isinstance(value, Array) or not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        (ahead, back), key, passes = kinds, f"{network}.{forwards[network] - 1}", Counter()

        def record(gradient: Array) -> None:
            recorded[f"{back}/{key}.{passes[back]}/{path}"] = to_nhwc(gradient)
            passes[back] += 1

        return _observed(lambda each: recorded.update({f"{ahead}/{key}/{path}": to_nhwc(each)}), record, value)

    def intercept(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        nonlocal current
        module, path = context.module, ".".join(context.module.path)
        if context.method_name != "__call__":
            return call(*arguments, **options)
        if not path and type(module) in names:
            current = names[type(module)]
            forwards.update([current])
        network = current
        given = tuple(observe(INPUT, network, path, value) for value in arguments[:1])
        return observe(OUTPUT, network, path, call(*given, *arguments[1:], **options))

    with nn.intercept_methods(intercept):
        yield


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _observed(ahead: Callable[[Array], None], back: Callable[[Array], None], value: Array) -> Array:
    """Return ``value`` and call ``ahead`` with it; ``back`` is called with its gradient."""
    jax.debug.callback(ahead, value)
    return value


def _observed_fwd(ahead, back, value):
    # Observed again, for the derivative of a derivative.
    return _observed(ahead, back, value), None


def _observed_bwd(ahead, back, saved, gradient):
    del ahead, saved
    jax.debug.callback(back, gradient)
    return (gradient,)


_observed.defvjp(_observed_fwd, _observed_bwd)


def named_parameters(state: states.State, network: str) -> dict[str, np.ndarray]:
    """Copy the parameters of a network of a state, by torch's names."""
    return to_numpy(getattr(state, network).parameters)


def to_numpy(tensors: Parameters) -> dict[str, np.ndarray]:
    """Copy named tensors to NumPy, by torch's names and in its layouts."""
    return interop.to_torch(tensors)


def to_nhwc(value: Array) -> np.ndarray:
    """Copy an activation or its gradient to NumPy; (batch, height, width, channel) where it is a map."""
    return np.array(value, np.float32 if value.dtype == jnp.bfloat16 else None)
