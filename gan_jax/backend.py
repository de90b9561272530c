"""JAX behind the contract of ``gan_shared/backend.py``."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gan_jax import models, projection
from gan_jax import state as states
from gan_jax.components import Components, build_components
from gan_jax.examples import StepInputs, make_images, pick, to_float
from gan_jax.features.extractor import feature_extractor
from gan_jax.image_conditions import IMAGE_CONDITIONS
from gan_jax.models import Networks
from gan_jax.precision import precision_scope
from gan_jax.state import Device, State
from gan_jax.step import make_step
from gan_jax.step_trace import record_step
from gan_shared.backend import FeatureExtractor, Inputs, Projector, StepValues
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.image_conditions import condition_name
from gan_shared.schedules import ScheduleValues, penalties_due


class Backend:
    """JAX, on one device. A state that a step was given must not be used again.

    Args:
        config: the run; its channels and classes must be known.
        networks: generator and discriminator, where they are not those that ``config`` names.
        components: loss and optimisers, likewise.
    """

    name = "jax"

    def __init__(self, config: Config, networks: Networks | None = None, components: Components | None = None) -> None:
        self.config, self.components = config, components or build_components(config)
        with self.precision_scope():
            self.networks = networks or build_networks(config)
        self.device = find_device(config.execution.device)
        self.dtype = states.dtype(config)
        # On a CPU XLA gives what is inside a loop no fast convolution, and a call costs nothing beside a step.
        self._scans = self.device.platform != "cpu"
        # Donated: the new state takes over the memory of the old one.
        self._call = jax.jit((_make_scan if self._scans else _make_call)(config, self.components), donate_argnums=0)
        self._call_without_penalties = jax.jit(
            _make_call(config.without_penalties(), self.components), donate_argnums=0
        )
        self._images: Array | None = None
        self._make_images = jax.jit(partial(make_images, config))
        self._advance = jax.jit(partial(projection.advance, config))

    def precision_scope(self) -> AbstractContextManager[None]:
        """Return a context in which the framework computes in this run's precision."""
        return precision_scope(self.config.training.precision)

    def init(self) -> State:
        """Return the state at step 0."""
        with self.precision_scope():
            return states.create(self.config, self.networks, self.components, self.device)

    def hold(self, images: np.ndarray) -> None:
        """Copy the data to the device."""
        self._images = jax.device_put(images, self.device)

    def steps(self, state: State, values: Sequence[StepValues]) -> tuple[State, Mapping[str, Array]]:
        """Take one training step or more."""
        calls: list[Any] = [self._inputs(value) for value in values]
        scalars = {}
        with self.precision_scope():
            if self._scans:
                stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *calls)
                return self._call(state, *jax.device_put(stacked, self.device), self._images)
            for call, value in zip(calls, values, strict=True):
                due = penalties_due(self.config, value.schedule_values)
                step = self._call if due else self._call_without_penalties
                state, scalars = step(state, *jax.device_put(call, self.device), self._images)
        return state, scalars

    def trace(self, state: State, value: StepValues) -> dict[str, np.ndarray]:
        """Take one training step, not compiled, and return every value of it."""
        with self.precision_scope():
            inputs, schedule_values = jax.device_put(self._inputs(value), self.device)
            if self._images is not None:
                inputs = inputs._replace(images=pick(self._images, inputs.images))
            due = penalties_due(self.config, value.schedule_values)
            config = self.config if due else self.config.without_penalties()
            return record_step(config, self.components, state, inputs, schedule_values)

    def sample(self, state: State, inputs: Inputs, ema: bool = True) -> np.ndarray:
        """Make images in evaluation mode."""
        network = state.generator_ema if ema else state.generator
        labels = None if inputs.labels is None else _given_labels(inputs.labels)
        with self.precision_scope():
            arrays = jax.device_put((inputs.latents.astype(self.dtype), labels, inputs.images), self.device)
            return np.array(self._make_images(network, state.image_condition_network, *arrays))

    def projector(self, state: State, target: np.ndarray, inputs: Inputs, ema: bool = True) -> Projector:
        """Return the function that moves latents towards those whose images are most like a target."""
        network = state.generator_ema if ema else state.generator
        labels = None if inputs.labels is None else _given_labels(inputs.labels)
        with self.precision_scope():
            latents, labels, bytes_ = jax.device_put((inputs.latents.astype(self.dtype), labels, target), self.device)
            wanted = to_float(self.config, bytes_[None], self.dtype)
            search = projection.begin(latents)

        def advance(learning_rates: Sequence[float]) -> np.ndarray:
            nonlocal search
            with self.precision_scope():
                for rate in learning_rates:
                    search = self._advance(network, search, wanted, labels, np.asarray(rate, self.dtype))
                return np.array(search.latents)

        return advance

    def feature_extractor(self, network: str, tensors: Mapping[str, np.ndarray]) -> FeatureExtractor:
        """Return the function that computes a feature network, in float32 whatever the run's precision."""
        return feature_extractor(network, tensors, self.device)

    def copy(self, state: State) -> State:
        """Return a state of its own memory, in training mode."""
        with self.precision_scope():
            return jax.tree.map(jnp.copy, state)

    def export(self, state: State) -> dict[str, np.ndarray]:
        """Copy the state to NumPy."""
        with self.precision_scope():
            return states.export(state)

    def restore(self, tensors: Mapping[str, np.ndarray]) -> State:
        """Rebuild an exported state."""
        with self.precision_scope():
            return states.restore(self.config, self.networks, self.components, self.device, tensors)

    @contextmanager
    def profile(self, folder: Path) -> Generator[None]:
        """Profile with the framework's own profiler, in files that TensorBoard's profile plugin and Perfetto open."""
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            yield

    def versions(self) -> dict[str, str]:
        """Return the versions and the device for the manifest."""
        return {"jax": jax.__version__, "numpy": np.__version__, "device": self.device.device_kind}

    def _inputs(self, value: StepValues) -> tuple[StepInputs, ScheduleValues]:
        """Bring what one step is a function of to the types that it is computed in."""
        batch, draws, schedule_values = value
        arrays: tuple[Any, ...] = (
            batch.images if self._images is None else batch.images.astype(np.int32),
            None if batch.labels is None or not self.config.data.class_conditional else batch.labels.astype(np.int32),
            draws.latents.astype(self.dtype),
            draws.interpolation.astype(self.dtype),
            draws.augment.astype(self.dtype),
        )
        return StepInputs(*arrays), jax.tree.map(lambda number: np.asarray(number, self.dtype), schedule_values)


def _given_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels in the type of indices, or weights of classes as they are."""
    return labels.astype(np.int32) if np.issubdtype(labels.dtype, np.integer) else labels


def find_device(device: str) -> Device:
    """Choose where to compute.

    Args:
        device: ``cpu``, ``gpu``, or ``auto`` for a GPU when there is one.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if device == "cpu":
        return jax.local_devices(backend="cpu")[0]
    if device == "gpu" and jax.default_backend() != "gpu":
        raise unexpected("device", "gpu", "a GPU that jax finds", ("auto", "cpu"))
    return jax.local_devices()[0]


def build_networks(config: Config) -> Networks:
    """Build the networks that ``config`` names, without values but for that of its image condition.

    Raises:
        UserError: a network is a module of the user's own, or cannot be built at this size, or weights cannot be read.
    """
    condition = IMAGE_CONDITIONS[condition_name(config)]
    return Networks(models.generator(config), models.discriminator(config), condition.build(config))


def _make_call(config: Config, components: Components) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Build the call of one step: (state, inputs, schedule values, held images or None) -> (state, scalars)."""
    step = make_step(config, components)

    def call(
        state: State, inputs: StepInputs, schedule_values: ScheduleValues, held: Array | None
    ) -> tuple[State, dict[str, Array]]:
        images = inputs.images if held is None else pick(held, inputs.images)
        return step(state, inputs._replace(images=images), schedule_values)

    return call


def _make_scan(config: Config, components: Components) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Build the call of several steps, whose inputs and schedule values are stacked along a first axis.

    One step is a scan as well: outside of one XLA would compile it to other roundings, and a run would depend on how
    many of its steps are called at once.
    """
    call = _make_call(config, components)
    without_penalties = _make_call(config.without_penalties(), components)

    def step(
        state: State, values: tuple[StepInputs, ScheduleValues], held: Array | None
    ) -> tuple[State, dict[str, Array]]:
        inputs, schedule_values = values
        if config.objective.penalty_every == 1:
            return call(state, inputs, schedule_values, held)
        return lax.cond(schedule_values.gamma != 0, call, without_penalties, state, inputs, schedule_values, held)

    def scan(
        state: State, inputs: StepInputs, schedule_values: ScheduleValues, held: Array | None
    ) -> tuple[State, dict[str, Array]]:
        state, scalars = lax.scan(lambda state, values: step(state, values, held), state, (inputs, schedule_values))
        return state, jax.tree.map(lambda values: values[-1], scalars)

    return scan
