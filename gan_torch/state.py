"""Everything that training changes, and its canonical names (``gan_shared/checkpoint.py``)."""

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan_shared import checkpoint, initial, manifest
from gan_shared.config import Config
from gan_shared.own import without_state as without_own_state
from gan_torch import own_optimizer
from gan_torch.components import Components
from gan_torch.models import Networks
from gan_torch.optimizers import Optimizer, OptimizerState


class State(NamedTuple):
    """One point of a run.

    Attributes:
        generator: the generator in training.
        discriminator: the discriminator in training.
        generator_ema: decaying average of the generator's parameters and floating buffers.
        image_condition_network: computes the image condition, or None; it never changes and no checkpoint holds it.
        generator_optimizer_state: averages and counters of the generator's optimiser.
        discriminator_optimizer_state: averages and counters of the discriminator's optimiser.
        augment_probability: what adaptation has added to the scheduled probability of augmentation.
        augment_signs: sum of the mean signs of the reals' logits since the probability last moved.
        step: generator updates done.
        first_non_finite_step: the first step with a loss that was not finite; 0 while there is none.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_ema: nn.Module
    image_condition_network: nn.Module | None
    generator_optimizer_state: OptimizerState
    discriminator_optimizer_state: OptimizerState
    augment_probability: Tensor
    augment_signs: Tensor
    step: Tensor
    first_non_finite_step: Tensor


def create(config: Config, networks: Networks, components: Components, device: torch.device) -> State:
    """Return the state at step 0 on ``device``.

    Declared weights are drawn from the seed; those of a user's own module are as the module holds them.
    """
    drawn = {name: _draw(config, name, getattr(networks, name)) for name in manifest.TRAINED}
    tensors = {f"{name}/{key}": value for name in drawn for key, value in drawn[name].items()}
    tensors |= {f"generator_ema/{key}": value for key, value in drawn["generator"].items()}
    return _place(config, networks, components, device, tensors)


def export(state: State) -> dict[str, np.ndarray]:
    """Copy the state to NumPy, by canonical name, in torch's layouts."""
    tensors = {}
    for network in manifest.ROLES:
        for name, value in getattr(state, network).state_dict().items():
            tensors[f"{network}/{name}"] = _to_numpy(value)
    for network in manifest.TRAINED:
        optimizer_state = getattr(state, f"{network}_optimizer_state")
        if own_optimizer.is_own_state(optimizer_state):
            tensors |= own_optimizer.export(network, optimizer_state)
            continue
        for key, by_name in optimizer_state.items():
            for name, value in by_name.items():
                tensors[checkpoint.optimizer_state_name(network, name, key)] = _to_numpy(value)
    return tensors | {f"trainer/{name}": _to_numpy(getattr(state, name)) for name in manifest.TRAINER}


def restore(
    config: Config, networks: Networks, components: Components, device: torch.device, tensors: Mapping[str, np.ndarray]
) -> State:
    """Rebuild the state that ``export`` described.

    Raises:
        UserError: names, shapes or types differ from what ``config`` needs; every one is listed.
    """
    checkpoint.check_layout(layout(config, networks, components), without_own_state(tensors, config))
    return _place(config, networks, components, device, tensors)


def layout(config: Config, networks: Networks, components: Components) -> dict[str, np.ndarray]:
    """Return name, shape and type of every tensor that ``export`` gives, as arrays that take no memory.

    What optimisers of the user's own keep is left out: each compares its state itself.
    """
    tensors = {}
    for network, role in manifest.ROLES.items():
        module: nn.Module = getattr(networks, role)
        for name, value in module.state_dict().items():
            kind = dtype(config) if value.is_floating_point() else value.dtype
            tensors[f"{network}/{name}"] = _shaped(value, kind)
    for network in manifest.TRAINED:
        optimizer = components.optimizer(network)
        if own_optimizer.own_optimizer(optimizer) is not None:
            continue
        parameters = dict(getattr(networks, network).named_parameters())
        shapes = {name: torch.empty_like(each, dtype=dtype(config), device="meta") for name, each in parameters.items()}
        for key, by_name in optimizer.init(shapes).items():
            for name, value in by_name.items():
                tensors[checkpoint.optimizer_state_name(network, name, key)] = _shaped(value, value.dtype)
    number = torch.empty((), device="meta")
    kinds = {name: torch.int64 if name == "step" else dtype(config) for name in manifest.TRAINER}
    return tensors | {f"trainer/{name}": _shaped(number, kind) for name, kind in kinds.items()}


def dtype(config: Config) -> torch.dtype:
    """Return the floating-point type of weights, losses and everything else that outlives a forward pass."""
    return torch.float64 if config.training.precision == "float64" else torch.float32


def compute_dtype(config: Config) -> torch.dtype:
    """Return the floating-point type that the networks compute in."""
    return torch.bfloat16 if config.training.precision == "bfloat16" else dtype(config)


def _draw(config: Config, network: str, module: nn.Module) -> dict[str, np.ndarray]:
    """Draw the declared parameters and buffers of a network and copy the others."""
    declared = {}
    for path, layer in module.named_modules():
        for key, how in getattr(layer, "declared", {}).items():
            name = f"{path}.{key}" if path else key
            declared[name] = (tuple(getattr(layer, key).shape), how)
    own = {name: value for name, value in module.state_dict().items() if name not in declared}
    drawn = initial.tensors(config.training.seed, network, declared) | {
        name: _to_numpy(value) for name, value in own.items()
    }
    return {name: drawn[name] for name in module.state_dict()}


def _place(
    config: Config, networks: Networks, components: Components, device: torch.device, tensors: Mapping[str, np.ndarray]
) -> State:
    """Build the modules on ``device`` and fill them; optimiser state and adaptation that are absent begin at 0."""
    parts = {network: copy.deepcopy(getattr(networks, manifest.ROLES[network])) for network in manifest.ROLES}
    for network, module in parts.items():
        prefix = f"{network}/"
        values = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        # The type first: loading would round float64 values to a float32 module's type.
        module.to(device, dtype(config)).to(memory_format=torch.channels_last)
        module.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
        module.train()
    parts["generator_ema"].eval().requires_grad_(False)
    optimizer_states = {
        name: _begin_optimizer(components.optimizer(name), name, parts[name], tensors) for name in manifest.TRAINED
    }
    floats = {
        name: torch.tensor(tensors.get(f"trainer/{name}", 0.0), dtype=dtype(config), device=device)
        for name in ("augment_probability", "augment_signs")
    }
    step = torch.tensor(tensors.get("trainer/step", np.int64(0)), device=device)
    return State(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        generator_ema=parts["generator_ema"],
        image_condition_network=_shared(config, networks.image_condition, device),
        generator_optimizer_state=optimizer_states["generator"],
        discriminator_optimizer_state=optimizer_states["discriminator"],
        **floats,
        step=step,
        first_non_finite_step=torch.zeros_like(step),
    )


def _shaped(value: Tensor, kind: torch.dtype) -> np.ndarray:
    """Return an array of the shape of a tensor, and of a type, that takes no memory."""
    return np.broadcast_to(torch.zeros((), dtype=kind).numpy(), tuple(value.shape))


def _shared(config: Config, network: nn.Module | None, device: torch.device) -> nn.Module | None:
    """Bring the network of the image condition, which all states share, to the device."""
    if network is None:
        return None
    return network.to(device, dtype(config)).to(memory_format=torch.channels_last)


def _begin_optimizer(
    optimizer: Optimizer, network: str, module: nn.Module, tensors: Mapping[str, np.ndarray]
) -> OptimizerState:
    """Return the optimiser state of a network before its first update, filled with what ``tensors`` holds of it."""
    parameters = dict(module.named_parameters())
    if own := own_optimizer.own_optimizer(optimizer):
        return own.restore(parameters, tensors)
    optimizer_state = optimizer.init(parameters)
    for key, by_name in optimizer_state.items():
        for name, value in by_name.items():
            saved = tensors.get(checkpoint.optimizer_state_name(network, name, key))
            if saved is not None:
                value.copy_(torch.tensor(saved))
    return optimizer_state


def _to_numpy(value: Tensor) -> np.ndarray:
    """Copy a tensor to the host; a view would change under the next step."""
    return np.array(value.detach().cpu().numpy(), order="C", copy=True)
