"""JAX behind the contract of ``gan_shared/backend.py``."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax import models
from gan_jax import state as states
from gan_jax.state import State
from gan_jax.step import make_step, to_uint8
from gan_shared.backend import Batch, Inputs
from gan_shared.config import Config
from gan_shared.draws import Draws
from gan_shared.errors import unexpected
from gan_shared.schedules import Knobs


class Backend:
    """JAX, on one device. A state that a step was given must not be used again.

    Args:
        config: the run; its channels must be known.
    """

    name = "jax"

    def __init__(self, config: Config) -> None:
        self.config = config
        if config.precision == "float64":
            jax.config.update("jax_enable_x64", True)
        self.device = find_device(config.device)
        self.dtype = states.dtype(config)
        # Donated: the new state takes over the memory of the old one.
        self._step = jax.jit(make_step(config), donate_argnums=0)
        self._generate = jax.jit(partial(_generate, config))

    def init(self) -> State:
        """Return the state at step 0."""
        return states.create(self.config, self.device)

    def step(self, state: State, batch: Batch, draws: Draws, knobs: Knobs) -> tuple[State, Mapping[str, Array]]:
        """Play one step."""
        inputs = (
            batch.images,
            draws.latents.astype(self.dtype),
            jax.tree.map(lambda knob: np.asarray(knob, self.dtype), knobs),
        )
        return self._step(state, *jax.device_put(inputs, self.device))

    def sample(self, state: State, inputs: Inputs, ema: bool = True) -> np.ndarray:
        """Make images in evaluation mode."""
        variables = state.generator_ema if ema else state.generator
        latents = jax.device_put(inputs.latents.astype(self.dtype), self.device)
        return np.array(self._generate(variables, latents))

    def export(self, state: State) -> dict[str, np.ndarray]:
        """Copy the state to NumPy."""
        return states.export(state)

    def restore(self, tensors: Mapping[str, np.ndarray]) -> State:
        """Rebuild an exported state."""
        return states.restore(self.config, self.device, tensors)

    def versions(self) -> dict[str, str]:
        """Return the versions and the device for the manifest."""
        return {"jax": jax.__version__, "numpy": np.__version__, "device": self.device.device_kind}


def find_device(device: str) -> Any:
    """Choose where to compute.

    Args:
        device: ``cpu``, ``gpu``, or ``auto`` for a GPU when there is one.

    Raises:
        UserError: a GPU is asked for and none is seen.
    """
    if device == "cpu":
        return jax.devices("cpu")[0]
    if device == "gpu" and jax.default_backend() != "gpu":
        raise unexpected("device", "gpu", "a device that jax sees", ("auto", "cpu"))
    return jax.devices()[0]


def _generate(config: Config, variables: dict, latents: Array) -> Array:
    """Make uint8 images from latents in evaluation mode."""
    return to_uint8(jnp.asarray(models.generator(config).apply(variables, latents, train=False)))
