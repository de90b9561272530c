"""The contract of a backend: what the training loop calls in PyTorch or JAX.

One legend for the project: L rows of latents, U discriminator updates, R rows of reals, B images in the global
batch, H height and W width in pixels, C channels, Z latent size, N any number of images.

Images cross this border as uint8 NHWC and become floats in [-1, 1], or in [0, 1] where the generator ends in a
sigmoid, on the device. Tensors cross it by their canonical names (``checkpoint.py``) in torch's layouts.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from gan_shared.config import Config
from gan_shared.draws import Draws
from gan_shared.schedules import ScheduleValues

# Images as a network takes them, float32 (N, H, W, C) -> its features (N, feature) and its logits (N, class),
# None where it has none.
FeatureExtractor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]

# A learning rate for each step to take on latents -> where they are then, (N, Z) in the type that the run computes in.
Projector = Callable[[Sequence[float]], np.ndarray]

# A state belongs to its backend: the training loop passes it on and reads nothing in it.
State = Any


class Batch(NamedTuple):
    """The real images of one step, for the global batch or the rows of one process.

    Attributes:
        images: uint8 (R, B, H, W, C), one row of B images per discriminator update and one more where the
            generator's loss depends on reals. Where the backend holds the data: int64 (R, B), which images of it, or
            (R, B, S), which S images become the channels of each.
        labels: int64 (R, B), or None where the data has none. Fakes have the classes of the reals of their update;
            those of the generator's update, of the last row.
    """

    images: np.ndarray
    labels: np.ndarray | None


class StepValues(NamedTuple):
    """What one step is a function of, beside the state.

    Attributes:
        batch: the real images.
        draws: the random numbers.
        schedule_values: the scheduled numbers: learning rates, decays, weights, probabilities.
    """

    batch: Batch
    draws: Draws
    schedule_values: ScheduleValues


class Inputs(NamedTuple):
    """What the generator makes samples from.

    Attributes:
        latents: float32 (N, Z).
        labels: int64 (N,), or None for a generator without class labels. For blends of classes float32 (N, classes):
            the weight of each, whose vectors, scales and biases are summed in these shares.
        images: uint8 (N, H', W', C), or None for a generator without an image condition: the images whose VGG16
            features it is given, or those whose next lower pyramid level, which they may be themselves, it adds detail
            to.
    """

    latents: np.ndarray
    labels: np.ndarray | None = None
    images: np.ndarray | None = None


class Backend(Protocol):
    """PyTorch or JAX, built from a Config whose channels are known.

    A backend changes no setting of the process for longer than one of its calls: backends of different precision exist
    side by side, and each computes what it would compute alone.
    """

    name: str
    """``torch`` or ``jax``, as the manifest names its writer."""

    config: Config
    """The run."""

    def __init__(self, config: Config) -> None:
        """Choose the device and build the networks.

        Raises:
            UserError: the device or precision that the Config asks for is not there.
        """
        ...

    def precision_scope(self) -> AbstractContextManager[None]:
        """Return a context in which the framework computes in this run's precision; settings are restored at its end.

        Every method below enters it by itself; it is for whatever else is computed with a state's tensors.
        """
        ...

    def init(self) -> State:
        """Return the state at step 0; its weights follow from the seed alone, the same in every backend."""
        ...

    def hold(self, images: np.ndarray) -> None:
        """Copy the data, uint8 (N, H, W, C), to the device; every later batch names its images by their indices."""
        ...

    def steps(self, state: State, values: Sequence[StepValues]) -> tuple[State, Mapping[str, Any]]:
        """Take one training step or more, each of them: the discriminator updates, the generator update, the EMA.

        Returns:
            The new state (the old one must not be used again) and scalars of the last step, that stay on the device
            until they are read: ``discriminator_loss`` and ``generator_loss`` (of the last update of each), ``penalty``
            (weighted, not part of ``discriminator_loss``), ``reconstruction_loss`` (weighted, not part of
            ``generator_loss``; 0 where no term has a weight), ``real_logit`` and ``fake_logit`` (their means in the
            last discriminator update), ``augment_probability``, ``first_non_finite_step`` (the number of the first
            step, counted from 1, with a loss that is not finite; 0 while there is none).

            Every floating-point scalar is a curve and is logged, whatever its name, but ``reconstruction_loss`` only
            where one of its terms has a weight. An integer is a check, which the training loop makes
            (``check_finite``), and is not.
        """
        ...

    def trace(self, state: State, value: StepValues) -> dict[str, np.ndarray]:
        """Take one training step, not compiled, and return every value of it by name, in execution order.

        Returns:
            Activations, losses, gradients, updates and buffers, by the names that ``step_trace.py`` of each backend
            lists. The state must not be used again.
        """
        ...

    def sample(self, state: State, inputs: Inputs, ema: bool = True) -> np.ndarray:
        """Make images in evaluation mode.

        Args:
            state: the state to sample from.
            inputs: what the images are made from.
            ema: whether the averaged generator makes them.

        Returns:
            uint8 (N, H, W, C).
        """
        ...

    def projector(self, state: State, target: np.ndarray, inputs: Inputs, ema: bool = True) -> Projector:
        """Return the function that moves latents towards those whose images are most like a target.

        Args:
            state: of which the generator is; it stays as it is.
            target: uint8 (H, W, C).
            inputs: the latents where the search begins, each of which is moved by itself, and their classes; no images.
            ema: whether the averaged generator makes the images.
        """
        ...

    def feature_extractor(self, network: str, tensors: Mapping[str, np.ndarray]) -> FeatureExtractor:
        """Return the function that computes a feature network, in float32 whatever the run's precision.

        Args:
            network: a name of ``feature_networks.py``.
            tensors: its tensors by name, float32.

        Returns:
            A function that is best called with batches of one size, as each size may be compiled by itself.
        """
        ...

    def copy(self, state: State) -> State:
        """Return a state of its own memory, in training mode, to be trained without changing ``state``."""
        ...

    def export(self, state: State) -> dict[str, np.ndarray]:
        """Return copies of everything that training changes, by canonical name (``checkpoint.py``)."""
        ...

    def restore(self, tensors: Mapping[str, np.ndarray]) -> State:
        """Rebuild the state that ``export`` described.

        Raises:
            UserError: names, shapes or types differ from what this Config's state has; every one is listed.
        """
        ...

    def profile(self, folder: Path) -> AbstractContextManager[None]:
        """Return a context that writes a profile of what runs inside it to ``folder``, for Perfetto or TensorBoard."""
        ...

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that compute, and the device, for the manifest."""
        ...


# The Backend class of gan_torch or gan_jax.
MakeBackend = Callable[[Config], Backend]
