"""PyTorch behind the contract of ``gan_shared/backend.py``."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gan_shared.backend import FeatureExtractor, Inputs, Projector, StepValues
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.image_conditions import condition_name
from gan_shared.schedules import penalties_due
from gan_torch import models, projection
from gan_torch import state as states
from gan_torch.compilation import Compiled
from gan_torch.components import Components, build_components
from gan_torch.cuda_graph import Captured
from gan_torch.examples import StepInputs, make_images, pick, to_float
from gan_torch.features.extractor import feature_extractor
from gan_torch.image_conditions import IMAGE_CONDITIONS
from gan_torch.models import Networks
from gan_torch.precision import precision_scope
from gan_torch.state import State
from gan_torch.step import Step, make_step
from gan_torch.step_trace import record_step


class Backend:
    """PyTorch, on one device. A state that a step was given must not be used again.

    Args:
        config: the run; its channels and classes must be known.
        networks: generator and discriminator, where they are not those that ``config`` names.
        components: loss and optimisers, likewise.
    """

    name = "torch"

    def __init__(self, config: Config, networks: Networks | None = None, components: Components | None = None) -> None:
        self.config, self.components = config, components or build_components(config)
        with self.precision_scope():
            self.networks = networks or build_networks(config)
        self.device = find_device(config.execution.device)
        self.dtype = states.dtype(config)
        self._step = self._make_step(config)
        self._step_without_penalties = self._make_step(config.without_penalties())
        self._images: Tensor | None = None

    def precision_scope(self) -> AbstractContextManager[None]:
        """Return a context in which the framework computes in this run's precision."""
        return precision_scope(self.config.training.precision)

    def init(self) -> State:
        """Return the state at step 0."""
        with self.precision_scope():
            return states.create(self.config, self.networks, self.components, self.device)

    def hold(self, images: np.ndarray) -> None:
        """Copy the data to the device."""
        self._images = self._put(np.array(images))

    def steps(self, state: State, values: Sequence[StepValues]) -> tuple[State, Mapping[str, Tensor]]:
        """Take one training step or more."""
        scalars = {}
        with self.precision_scope():
            for value in values:
                due = penalties_due(self.config, value.schedule_values)
                step = self._step if due else self._step_without_penalties
                state, scalars = step(state, self._inputs(value), value.schedule_values)
        return state, scalars

    def trace(self, state: State, value: StepValues) -> dict[str, np.ndarray]:
        """Take one training step, not compiled, and return every value of it."""
        with self.precision_scope():
            due = penalties_due(self.config, value.schedule_values)
            config = self.config if due else self.config.without_penalties()
            return record_step(config, self.components, state, self._inputs(value), value.schedule_values)

    def sample(self, state: State, inputs: Inputs, ema: bool = True) -> np.ndarray:
        """Make images in evaluation mode."""
        network = state.generator_ema if ema else state.generator
        with self.precision_scope(), _evaluating(network), torch.no_grad():
            latents = self._put(inputs.latents).to(self.dtype)
            labels = None if inputs.labels is None else self._put(inputs.labels)
            images = None if inputs.images is None else self._put(inputs.images)
            made = make_images(self.config, network, state.image_condition_network, latents, labels, images)
            return made.cpu().numpy()

    def projector(self, state: State, target: np.ndarray, inputs: Inputs, ema: bool = True) -> Projector:
        """Return the function that moves latents towards those whose images are most like a target."""
        network = state.generator_ema if ema else state.generator
        with self.precision_scope():
            wanted = to_float(self.config, self._put(np.array(target[None])), self.dtype)
            labels = None if inputs.labels is None else self._put(inputs.labels)
            search = projection.begin(self._put(inputs.latents).to(self.dtype))

        def advance(learning_rates: Sequence[float]) -> np.ndarray:
            nonlocal search
            with self.precision_scope(), _evaluating(network):
                for rate in learning_rates:
                    search = projection.advance(self.config, network, search, wanted, labels, rate)
                return search.latents.cpu().numpy()

        return advance

    def feature_extractor(self, network: str, tensors: Mapping[str, np.ndarray]) -> FeatureExtractor:
        """Return the function that computes a feature network, in float32 whatever the run's precision."""
        return feature_extractor(network, tensors, self.device)

    def copy(self, state: State) -> State:
        """Return a state of its own memory, in training mode."""
        return self.restore(self.export(state))

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
        with torch.profiler.profile(on_trace_ready=torch.profiler.tensorboard_trace_handler(str(folder))):
            yield

    def versions(self) -> dict[str, str]:
        """Return the versions and the device for the manifest."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {"torch": torch.__version__, "numpy": np.__version__, "device": device}

    def _make_step(self, config: Config) -> Step:
        """Build the step of a run, or of its steps without penalties, compiled or captured where the run is to be."""
        step = make_step(config, self.components)
        if config.execution.compile:
            return Compiled(step)
        return Captured(step, config, self.device) if config.execution.cuda_graph else step

    def _inputs(self, value: StepValues) -> StepInputs:
        """Copy the batch and the draws of one step to the device."""
        batch, draws, _ = value
        images = self._put(batch.images)
        return StepInputs(
            images=images if self._images is None else pick(self._images, images),
            labels=None if batch.labels is None or not self.config.data.class_conditional else self._put(batch.labels),
            latents=self._put(draws.latents).to(self.dtype),
            interpolation=self._put(draws.interpolation).to(self.dtype),
            augment=self._put(draws.augment).to(self.dtype),
        )

    def _put(self, array: np.ndarray) -> Tensor:
        """Copy an array to the device, which goes on computing meanwhile."""
        tensor = torch.from_numpy(array)
        # Only from pinned memory does a GPU copy by itself.
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


@contextmanager
def _evaluating(network: nn.Module) -> Generator[None]:
    """Hold a network in evaluation mode while the block runs."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def find_device(device: str) -> torch.device:
    """Choose where to compute.

    Args:
        device: ``cpu``, ``gpu``, or ``auto`` for a GPU when there is one.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if device == "gpu" and not torch.cuda.is_available():
        raise unexpected("device", "gpu", "a GPU that torch finds", ("auto", "cpu"))
    return torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")


def build_networks(config: Config) -> Networks:
    """Build the networks that ``config`` names, without values but for that of its image condition.

    Raises:
        UserError: a network is a module of the user's own, or cannot be built at this size, or weights cannot be read.
    """
    condition = IMAGE_CONDITIONS[condition_name(config)]
    return Networks(models.generator(config), models.discriminator(config), condition.build(config))
