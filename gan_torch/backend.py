"""PyTorch behind the contract of ``gan_shared/backend.py``."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_shared.backend import Inputs, StepValues
from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_torch import models
from gan_torch import state as states
from gan_torch import trace as tracing
from gan_torch.compilation import Compiled
from gan_torch.conditions import CONDITIONS
from gan_torch.models import Networks
from gan_torch.state import State
from gan_torch.step import StepInputs, generate, make_step, pick, to_float, to_uint8


class Backend:
    """PyTorch, on one device. A state that a step was given must not be used again.

    Args:
        config: the run; its channels and classes must be known.
        networks: the two players, where they are not those that ``config`` names.
    """

    name = "torch"

    def __init__(self, config: Config, networks: Networks | None = None) -> None:
        self.config = config
        self.networks = networks or models.networks(config)
        self.device = find_device(config.device)
        self.dtype = states.dtype(config)
        # float32 means float32: left alone, a GPU rounds what it convolves to TF32.
        rounded = config.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = rounded
        step = make_step(config)
        self._step = Compiled(step) if config.compile else step
        self._images: Tensor | None = None

    def init(self) -> State:
        """Return the state at step 0."""
        return states.create(self.config, self.networks, self.device)

    def hold(self, images: np.ndarray) -> None:
        """Copy the data to the device."""
        self._images = self._put(np.array(images))

    def steps(self, state: State, values: Sequence[StepValues]) -> tuple[State, Mapping[str, Tensor]]:
        """Play one step or more."""
        scalars = {}
        for value in values:
            state, scalars = self._step(state, self._inputs(value), value.knobs)
        return state, scalars

    def trace(self, state: State, value: StepValues) -> dict[str, np.ndarray]:
        """Play one step, not compiled, and return every value that it met."""
        return tracing.trace(make_step(self.config), state, self._inputs(value), value.knobs)

    def sample(self, state: State, inputs: Inputs, ema: bool = True) -> np.ndarray:
        """Make images in evaluation mode."""
        network, condition = state.generator_ema if ema else state.generator, None
        latents = self._put(inputs.latents).to(self.dtype)
        labels = None if inputs.labels is None else self._put(inputs.labels)
        training = network.training
        network.eval()
        with torch.no_grad():
            if inputs.images is not None:
                pictures = to_float(self.config, self._put(inputs.images), self.dtype)
                condition = CONDITIONS[self.config.condition](self.config, state.vgg, pictures)
            images = generate(self.config, network, latents, labels, condition)
        network.train(training)
        return to_uint8(self.config, images).cpu().numpy()

    def export(self, state: State) -> dict[str, np.ndarray]:
        """Copy the state to NumPy."""
        return states.export(state)

    def restore(self, tensors: Mapping[str, np.ndarray]) -> State:
        """Rebuild an exported state."""
        return states.restore(self.config, self.networks, self.device, tensors)

    @contextmanager
    def profile(self, folder: Path) -> Generator[None]:
        """Trace with the framework's own profiler, in files that TensorBoard's profile plugin and Perfetto open."""
        with torch.profiler.profile(on_trace_ready=torch.profiler.tensorboard_trace_handler(str(folder))):
            yield

    def versions(self) -> dict[str, str]:
        """Return the versions and the device for the manifest."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {"torch": torch.__version__, "numpy": np.__version__, "device": device}

    def _inputs(self, value: StepValues) -> StepInputs:
        """Copy the batch and the draws of one step to the device."""
        batch, draws, _ = value
        images = self._put(batch.images)
        return StepInputs(
            images=images if self._images is None else pick(self._images, images),
            labels=None if batch.labels is None or not self.config.conditional else self._put(batch.labels),
            latents=self._put(draws.latents).to(self.dtype),
            mix=self._put(draws.mix).to(self.dtype),
            augment=self._put(draws.augment).to(self.dtype),
        )

    def _put(self, array: np.ndarray) -> Tensor:
        """Copy an array to the device, which goes on computing meanwhile."""
        tensor = torch.from_numpy(array)
        # Only from pinned memory does a GPU copy by itself.
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def find_device(device: str) -> torch.device:
    """Choose where to compute.

    Args:
        device: ``cpu``, ``gpu``, or ``auto`` for a GPU when there is one.

    Raises:
        UserError: a GPU is asked for and none is seen.
    """
    if device == "gpu" and not torch.cuda.is_available():
        raise unexpected("device", "gpu", "a device that torch sees", ("auto", "cpu"))
    return torch.device("cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda")
