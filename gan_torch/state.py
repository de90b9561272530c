"""Everything that training changes, and its canonical names (``gan_shared/checkpoint.py``)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan_shared import checkpoint, initial
from gan_shared.config import Config
from gan_torch import models
from gan_torch.optimizers import Adam, Moments


class State(NamedTuple):
    """One point of a run.

    Attributes:
        generator: the generator in training.
        discriminator: the discriminator in training.
        generator_ema: decaying average of the generator's parameters and floating buffers.
        generator_moments: what the generator's optimiser remembers.
        discriminator_moments: what the discriminator's optimiser remembers.
        step: generator updates done.
        first_non_finite_step: the first step with a loss that was not finite; 0 while there is none.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_ema: nn.Module
    generator_moments: Moments
    discriminator_moments: Moments
    step: Tensor
    first_non_finite_step: Tensor


def create(config: Config, device: torch.device) -> State:
    """Return the state at step 0 on ``device``, its weights drawn from the seed."""
    networks = {"generator": models.generator(config), "discriminator": models.discriminator(config)}
    drawn = {name: _draw(config, name, network) for name, network in networks.items()}
    tensors = {f"{name}/{key}": value for name in drawn for key, value in drawn[name].items()}
    tensors |= {f"generator_ema/{key}": value for key, value in drawn["generator"].items()}
    return _place(config, device, tensors)


def export(state: State) -> dict[str, np.ndarray]:
    """Copy the state to NumPy, by canonical name, in torch's layouts."""
    tensors = {}
    for network in checkpoint.ROLES:
        for name, value in getattr(state, network).state_dict().items():
            tensors[f"{network}/{name}"] = _to_numpy(value)
    for network in checkpoint.TRAINED:
        for key, by_name in getattr(state, f"{network}_moments")._asdict().items():
            for name, value in by_name.items():
                tensors[checkpoint.moment_name(network, name, key)] = _to_numpy(value)
    return tensors | {"game/step": _to_numpy(state.step)}


def restore(config: Config, device: torch.device, tensors: Mapping[str, np.ndarray]) -> State:
    """Rebuild the state that ``export`` described.

    Raises:
        UserError: names, shapes or types differ from what ``config`` needs; every one is listed.
    """
    expected = export(create(config, torch.device("cpu")))
    checkpoint.check_layout(expected, tensors)
    return _place(config, device, tensors)


def dtype(config: Config) -> torch.dtype:
    """Return the floating-point type that ``config`` computes in."""
    return {"float32": torch.float32, "float64": torch.float64}[config.precision]


def _draw(config: Config, network: str, module: nn.Module) -> dict[str, np.ndarray]:
    """Draw the initial values of a network's parameters and buffers."""
    declared = {}
    for path, layer in module.named_modules():
        for key, how in getattr(layer, "declared", {}).items():
            name = f"{path}.{key}"
            declared[name] = (tuple(getattr(layer, key).shape), how)
    drawn = initial.tensors(config.seed, network, declared)
    assert drawn.keys() == module.state_dict().keys(), "a layer left a tensor undeclared"
    return drawn


def _place(config: Config, device: torch.device, tensors: Mapping[str, np.ndarray]) -> State:
    """Build the modules on ``device`` and fill them; moments that are absent begin at zero."""
    parts = {
        "generator": models.generator(config),
        "discriminator": models.discriminator(config),
        "generator_ema": models.generator(config),
    }
    for network, module in parts.items():
        prefix = f"{network}/"
        values = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        # The type first: loading would round float64 values to a float32 module's type.
        module.to(device, dtype(config)).to(memory_format=torch.channels_last)
        module.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    parts["generator_ema"].eval().requires_grad_(False)
    moments = {name: _moments(config, name, parts[name], tensors) for name in checkpoint.TRAINED}
    step = torch.tensor(tensors.get("game/step", np.int64(0)), device=device)
    return State(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        generator_ema=parts["generator_ema"],
        generator_moments=moments["generator"],
        discriminator_moments=moments["discriminator"],
        step=step,
        first_non_finite_step=torch.zeros_like(step),
    )


def _moments(config: Config, network: str, module: nn.Module, tensors: Mapping[str, np.ndarray]) -> Moments:
    """Begin a network's moments at zero and overwrite them with what ``tensors`` holds."""
    moments = Adam(config.beta1).init(dict(module.named_parameters()))
    for key, by_name in moments._asdict().items():
        for name, value in by_name.items():
            saved = tensors.get(checkpoint.moment_name(network, name, key))
            if saved is not None:
                value.copy_(torch.tensor(saved))
    return moments


def _to_numpy(value: Tensor) -> np.ndarray:
    """Copy a tensor to the host; a view would change under the next step."""
    return np.array(value.detach().cpu().numpy(), order="C", copy=True)
