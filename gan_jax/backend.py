"""JAX behind the contract of ``gan_shared/backend.py``."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from gan_jax import models
from gan_jax import state as states
from gan_jax import trace as tracing
from gan_jax.conditions import CONDITIONS
from gan_jax.models import Networks
from gan_jax.network import Network
from gan_jax.state import State
from gan_jax.step import StepInputs, generate, make_step, pick, to_float, to_uint8
from gan_shared.backend import Inputs, StepValues
from gan_shared.config import Config
from gan_shared.data import cache
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
        if jax.config.values["jax_compilation_cache_dir"] is None:
            # A second start finds what the first compiled; JAX_COMPILATION_CACHE_DIR names another place.
            jax.config.update("jax_compilation_cache_dir", str(cache.root() / "jax"))
        self.device = find_device(config.device)
        self.dtype = states.dtype(config)
        # On a CPU XLA gives what is inside a loop no fast convolution, and a call costs nothing beside a step.
        self._scans = self.device.platform != "cpu"
        # Donated: the new state takes over the memory of the old one.
        self._call = jax.jit(_make_scan(config) if self._scans else _make_call(config), donate_argnums=0)
        self._images: Array | None = None
        self._generate = jax.jit(partial(_generate, config))

    def init(self) -> State:
        """Return the state at step 0."""
        return states.create(self.config, self.networks, self.device)

    def hold(self, images: np.ndarray) -> None:
        """Copy the data to the device."""
        self._images = jax.device_put(images, self.device)

    def steps(self, state: State, values: Sequence[StepValues]) -> tuple[State, Mapping[str, Array]]:
        """Play one step or more."""
        calls: list[Any] = [self._inputs(value) for value in values]
        if self._scans:
            calls = [jax.tree.map(lambda *leaves: np.stack(leaves), *calls)]
        scalars = {}
        with self._precision():
            for call in calls:
                state, scalars = self._call(state, *jax.device_put(call, self.device), self._images)
        return state, scalars

    def trace(self, state: State, value: StepValues) -> dict[str, np.ndarray]:
        """Play one step, not compiled, and return every value that it met."""
        inputs, knobs = jax.device_put(self._inputs(value), self.device)
        if self._images is not None:
            inputs = inputs._replace(images=pick(self._images, inputs.images))
        with self._precision():
            return tracing.trace(make_step(self.config), state, inputs, knobs)

    def sample(self, state: State, inputs: Inputs, ema: bool = True) -> np.ndarray:
        """Make images in evaluation mode."""
        network = state.generator_ema if ema else state.generator
        labels = None if inputs.labels is None else inputs.labels.astype(np.int32)
        arrays = jax.device_put((inputs.latents.astype(self.dtype), labels, inputs.images), self.device)
        with self._precision():
            return np.array(self._generate(network, state.vgg, *arrays))

    def export(self, state: State) -> dict[str, np.ndarray]:
        """Copy the state to NumPy."""
        return states.export(state)

    def restore(self, tensors: Mapping[str, np.ndarray]) -> State:
        """Rebuild an exported state."""
        return states.restore(self.config, self.networks, self.device, tensors)

    @contextmanager
    def profile(self, folder: Path) -> Generator[None]:
        """Trace with the framework's own profiler, in files that TensorBoard's profile plugin and Perfetto open."""
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            yield

    def versions(self) -> dict[str, str]:
        """Return the versions and the device for the manifest."""
        return {"jax": jax.__version__, "numpy": np.__version__, "device": self.device.device_kind}

    def _inputs(self, value: StepValues) -> tuple[StepInputs, Knobs]:
        """Bring what one step is a function of to the types that it is computed in."""
        batch, draws, knobs = value
        arrays: tuple[Any, ...] = (
            batch.images if self._images is None else batch.images.astype(np.int32),
            None if batch.labels is None or not self.config.conditional else batch.labels.astype(np.int32),
            draws.latents.astype(self.dtype),
            draws.mix.astype(self.dtype),
            draws.augment.astype(self.dtype),
        )
        return StepInputs(*arrays), jax.tree.map(lambda knob: np.asarray(knob, self.dtype), knobs)

    def _precision(self) -> AbstractContextManager[None]:
        """Return the context to compute in: float32 means float32, where a GPU would round to TF32 if left alone."""
        return jax.default_matmul_precision("tensorfloat32" if self.config.precision == "tf32" else "highest")


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


def _make_call(config: Config) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Build the call of one step: (state, inputs, knobs, held images or None) -> (state, scalars)."""
    step = make_step(config)

    def call(state: State, inputs: StepInputs, knobs: Knobs, held: Array | None) -> tuple[State, dict[str, Array]]:
        images = inputs.images if held is None else pick(held, inputs.images)
        return step(state, inputs._replace(images=images), knobs)

    return call


def _make_scan(config: Config) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Build the call of several steps, whose inputs and knobs are stacked along a first axis.

    One step is a scan as well: outside of one XLA would compile it to other roundings, and a run would depend on how
    many of its steps are called at once.
    """
    call = _make_call(config)

    def scan(state: State, inputs: StepInputs, knobs: Knobs, held: Array | None) -> tuple[State, dict[str, Array]]:
        state, scalars = lax.scan(lambda state, values: call(state, *values, held), state, (inputs, knobs))
        return state, jax.tree.map(lambda values: values[-1], scalars)

    return scan


def _generate(
    config: Config, network: Network, vgg: Network | None, latents: Array, labels: Array | None, pictures: Array | None
) -> Array:
    """Make uint8 images from latents, labels and uint8 pictures in evaluation mode."""
    condition = None
    if pictures is not None:
        condition = CONDITIONS[config.condition](config, vgg, to_float(config, pictures, states.dtype(config)))
    images, _ = generate(config, network, latents, labels, condition, train=False)
    return to_uint8(config, images)
