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
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gan_shared.config import Config
from gan_shared.manifest import TRAINED
from gan_shared.schedules import ScheduleValues
from gan_shared.step_trace import update_recorder
from gan_torch import state as states
from gan_torch.components import Components
from gan_torch.examples import StepInputs
from gan_torch.optimizers import Parameters
from gan_torch.step import make_step

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
    networks: dict[str, nn.Module] = {name: getattr(state, name) for name in TRAINED}
    if state.image_condition_network is not None:
        networks["image_condition"] = state.image_condition_network
    step = make_step(config, components, update_recorder(recorded, before, to_numpy))
    with record_modules(networks, recorded):
        state, scalars = step(state, inputs, schedule_values)
    recorded |= {f"scalar/{name}": np.asarray(value) for name, value in to_numpy(scalars).items()}
    return recorded | {f"state/{name}": value for name, value in states.export(state).items()}


@contextmanager
def record_modules(networks: Mapping[str, nn.Module], recorded: dict[str, np.ndarray]) -> Generator[None]:
    """Record inputs and outputs of the modules of networks, and the gradients at both, while the block runs.

    Args:
        networks: by name.
        recorded: where values are put, by the names of this module's docstring.
    """
    forwards: Counter[str] = Counter()
    handles: list[RemovableHandle] = []

    def observe(kinds: tuple[str, str], network: str, path: str, value: object) -> object:
        """Record a tensor and its gradients; the result is to be used in its place."""
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        (ahead, back), key, passes = kinds, f"{network}.{forwards[network] - 1}", Counter()
        recorded[f"{ahead}/{key}/{path}"] = to_nhwc(value)
        # A tensor of its own, whose gradient is that of this use alone.
        copied = value.view_as(value)

        def record(gradient: Tensor | None) -> None:
            if gradient is None:
                return  # nothing comes back: it is zero everywhere
            recorded[f"{back}/{key}.{passes[back]}/{path}"] = to_nhwc(gradient)
            passes[back] += 1

        if copied.requires_grad:
            copied.register_hook(record)
        return copied

    def before(network: str, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...]:
            forwards.update([network] if not path else [])
            return (observe(INPUT, network, path, inputs[0]), *inputs[1:]) if inputs else inputs

        return hook

    def after(network: str, path: str) -> Callable[..., Any]:
        return lambda module, inputs, output: observe(OUTPUT, network, path, output)

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


def to_numpy(tensors: Parameters) -> dict[str, np.ndarray]:
    """Copy named tensors to NumPy, by torch's names and in its layouts."""
    return {name: _wide(value).numpy().copy() for name, value in tensors.items()}


def to_nhwc(value: Tensor) -> np.ndarray:
    """Copy an activation or its gradient to NumPy; (batch, height, width, channel) where it is a map."""
    array = _wide(value).numpy().copy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _wide(value: Tensor) -> Tensor:
    """Bring a tensor to the host, in a type that NumPy has."""
    value = value.detach().cpu()
    return value.float() if value.dtype == torch.bfloat16 else value
