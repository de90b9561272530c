"""JAX behind the contract of ``gan_shared/backend.py``."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from gan_jax import models
from gan_jax import state as states
from gan_jax.models import Networks
from gan_jax.network import Network
from gan_jax.state import State
from gan_jax.step import StepInputs, make_step, to_uint8
from gan_shared.backend import Batch, Inputs
from gan_shared.config import Config
from gan_shared.draws import Draws
from gan_shared.errors import unexpected
from gan_shared.schedules import Knobs


class Backend:
    """JAX, on one device. A state that a step was given must not be used again.

    Args:
        config: the run; its channels and classes must be known.
        networks: the two players, where they are not those that ``config`` names.
    """

    name = "jax"

    def __init__(self, config: Config, networks: Networks | None = None) -> None:
        self.config = config
        self.networks = networks or models.networks(config)
        if config.precision == "float64":
            jax.config.update("jax_enable_x64", True)
        self.device = find_device(config.device)
        self.dtype = states.dtype(config)
        # Donated: the new state takes over the memory of the old one.
        self._step = jax.jit(make_step(config), donate_argnums=0)
        self._generate = jax.jit(partial(_generate, config))

    def init(self) -> State:
        """Return the state at step 0."""
        return states.create(self.config, self.networks, self.device)

    def step(self, state: State, batch: Batch, draws: Draws, knobs: Knobs) -> tuple[State, Mapping[str, Array]]:
        """Play one step."""
        arrays = (
            batch.images,
            None if batch.labels is None or not self.config.conditional else batch.labels.astype(np.int32),
            draws.latents.astype(self.dtype),
            draws.mix.astype(self.dtype),
            draws.augment.astype(self.dtype),
        )
        floats = jax.tree.map(lambda knob: np.asarray(knob, self.dtype), knobs)
        arrays, floats = jax.device_put((arrays, floats), self.device)
        return self._step(state, StepInputs(*arrays), floats)

    def sample(self, state: State, inputs: Inputs, ema: bool = True) -> np.ndarray:
        """Make images in evaluation mode."""
        network = state.generator_ema if ema else state.generator
        labels = None if inputs.labels is None else inputs.labels.astype(np.int32)
        latents, labels = jax.device_put((inputs.latents.astype(self.dtype), labels), self.device)
        return np.array(self._generate(network, latents, labels))

    def export(self, state: State) -> dict[str, np.ndarray]:
        """Copy the state to NumPy."""
        return states.export(state)

    def restore(self, tensors: Mapping[str, np.ndarray]) -> State:
        """Rebuild an exported state."""
        return states.restore(self.config, self.networks, self.device, tensors)

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


def _generate(config: Config, network: Network, latents: Array, labels: Array | None) -> Array:
    """Make uint8 images from latents in evaluation mode."""
    images, _ = models.call(network, latents.astype(states.compute_dtype(config)), labels, train=False)
    return to_uint8(config, images.astype(states.dtype(config)))
