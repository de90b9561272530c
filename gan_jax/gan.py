"""The library face: a GAN as one object, driven by the same spine as the command line."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from gan_jax import models
from gan_jax.backend import Backend
from gan_shared import checkpoint, library
from gan_shared.sample import Maker, make_images
from gan_shared.train import play
from gan_shared.validation import validate


class GAN:
    """A generator and a discriminator, and everything that training changes.

    A network is named (cnn, which is dcgan, resnet, inception, r3gan, r3gan-tiny) or is a module of the user's own,
    which keeps the initial weights it has: a generator maps latents (batch, latent) to images (batch, height, width,
    channel) from -1 to 1, a discriminator maps images to logits (batch,); where ``conditional`` is set both take
    ``labels`` (batch,) as well. Axes are in the order of the framework. Ctrl-C ends ``fit`` after the step. Device and
    precision are options and stay as they are given.

    Args:
        generator: a name or a module.
        discriminator: a name or a module.
        loss: see ``gan_shared/config.py``, which also lists the further options.
        optimizer: of both networks: adam, adamw, rmsprop or sgd.
        resolution: height and width of the images in pixels.
        channels: colours of the images: 1 (grey) or 3 (RGB).
        options: further fields of Config, such as batch_size, generator_learning_rate, penalties, seed or device.

    Raises:
        UserError: a value cannot work.
    """

    def __init__(
        self,
        generator: str | nn.Module = "cnn",
        discriminator: str | nn.Module = "cnn",
        loss: str = "bce",
        optimizer: str = "adam",
        resolution: int = 32,
        channels: int = 1,
        **options: Any,
    ) -> None:
        options = {"loss": loss, "resolution": resolution, "channels": channels, **options}
        self.config = library.configure(nn.Module, generator, discriminator, optimizer, options)
        self.backend = _backend(self.config, generator, discriminator)
        self.history: list[dict[str, float]] = []
        self.state, self.steps_done = self.backend.init(), 0
        library.check_generator(self.backend, self.state)

    def fit(self, images: np.ndarray, labels: np.ndarray | None = None, steps: int = 1000) -> Self:
        """Train for ``steps`` steps more and return the trained GAN.

        Args:
            images: uint8 (image, height, width) or (image, height, width, channel); brought to the GAN's size.
            labels: integers (image,), needed where ``conditional`` is set.
            steps: generator updates.

        Raises:
            UserError: the images cannot be used, or the losses are no longer finite.
        """
        dataset = library.dataset(images, labels, self.config)
        config = library.prolonged(self.config, self.steps_done, steps)
        with library.Progress(steps, self.steps_done) as progress:
            # A copy: the steps take over the memory of the state that they are given.
            state = jax.tree.map(jnp.copy, self.state)
            state, done = play(self.backend, config, state, dataset, self.steps_done, progress)
        trained = copy.copy(self)
        trained.state, trained.steps_done = state, done
        trained.history = [*self.history, *progress.history]
        return trained

    def sample(
        self, num_images: int = 64, seed: int = 0, labels: np.ndarray | None = None, ema: bool = True
    ) -> np.ndarray:
        """Make images, uint8 (image, height, width, channel).

        Args:
            num_images: how many.
            seed: image i follows from the seed, i and its label alone.
            labels: integers (image,); the classes in turn when not given.
            ema: whether the averaged generator makes them.
        """
        inputs = library.inputs(self.config, num_images, seed, labels)
        return np.concatenate(list(make_images([Maker(self.backend, self.state)], [inputs], ema)))

    def __call__(self, latents: Array, labels: Array | None = None) -> Array:
        """Make images (batch, height, width, channel) in the generator's range with the averaged generator."""
        images, _ = models.call(self.state.generator_ema, latents, labels, train=False)
        return images

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder, of everything, that either backend's ``load`` and ``sample`` read.

        Raises:
            UserError: it cannot be written.
        """
        written_by = {"backend": self.backend.name, **self.backend.versions()}
        data = {"name": library.MEMORY, "fingerprint": ""}
        config = replace(self.config, steps=max(1, self.steps_done))
        checkpoint.write(Path(path), config, self.backend.export(self.state), written_by, data)

    @classmethod
    def load(
        cls,
        path: str | Path,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        device: str = "auto",
    ) -> Self:
        """Return the GAN in a checkpoint folder, or in the newest of a run folder, of either backend.

        Args:
            path: the folder.
            generator: the user's own module, where the GAN was made with one.
            discriminator: likewise.
            device: cpu, gpu, or auto, whatever the GAN was trained on.

        Raises:
            UserError: there is no good checkpoint, or it needs a module.
        """
        loaded = checkpoint.load_newest(Path(path))
        gan = cls.__new__(cls)
        gan.config, gan.history = replace(loaded.config, device=device), []
        validate(gan.config)
        library.check_unpictured(gan.config)
        gan.backend = _backend(gan.config, generator or "", discriminator or "")
        gan.state, gan.steps_done = gan.backend.restore(loaded.tensors), loaded.step
        library.check_generator(gan.backend, gan.state)
        return gan


def _backend(config: Any, generator: object, discriminator: object) -> Backend:
    """Build the backend, with the user's own modules where they are given."""
    return Backend(
        config,
        models.Networks(
            generator if isinstance(generator, nn.Module) else models.generator(config),
            discriminator if isinstance(discriminator, nn.Module) else models.discriminator(config),
        ),
    )
