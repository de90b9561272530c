"""The Python API: a GAN as one object, trained by the same loop as the command line."""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from gan_jax import models
from gan_jax.backend import Backend
from gan_jax.network import Network
from gan_shared import checkpoint, gan_api, hub
from gan_shared.config import Config
from gan_shared.gan_api import Option
from gan_shared.hooks import Every
from gan_shared.manifest import MEMORY
from gan_shared.sample import TrainedGenerator, generate_images
from gan_shared.train import play
from gan_shared.validation import validate


class GAN:
    """A generator and a discriminator, and everything that training changes.

    A network is named (cnn, which is dcgan, dcgan-deep, resnet, inception, r3gan, r3gan-tiny) or is a module of the
    user's own, which keeps the initial weights it has: a generator maps latents (batch, latent) to images (batch,
    height, width, channel) from -1 to 1, a discriminator maps images to logits (batch, ...), one or more of each; where
    ``class_conditional`` is set both take ``labels`` (batch,) as well. Axes are in the order of the framework. A
    discriminator may be ``patch`` too. Ctrl-C ends ``fit`` after the step. Device and precision are options and stay as
    they are given.

    Args:
        generator: a name or a module.
        discriminator: a name or a module.
        loss: see ``docs/options.md``, which also lists the further options.
        optimizer: of both networks: adam, adamw, rmsprop or sgd; ``generator_optimizer`` and
            ``discriminator_optimizer`` override it.
        resolution: height and width of the images in pixels.
        channels: colours of the images: 1 (grey) or 3 (RGB).
        options: further options by name, such as batch_size, generator_learning_rate, penalties, seed or device.

    Attributes:
        config: all options.
        steps_done: generator updates done.
        history: what ``fit`` has logged: of every ``log_every``-th step, of those at which a callback returned numbers,
            and of the last of each ``fit``, ``step`` and the losses and further numbers by name.
        state: everything that training changes.
        backend: what computes.

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
        **options: Option,
    ) -> None:
        options = {"loss": loss, "resolution": resolution, "channels": channels, **options}
        self.config = gan_api.configure(nn.Module, generator, discriminator, optimizer, options)
        self.backend = _backend(self.config, generator, discriminator)
        self.history: list[dict[str, float]] = []
        with gan_api.applying_own_modules(self.config):
            self.state, self.steps_done = self.backend.init(), 0
            gan_api.check_generator(self.backend, self.state)
            gan_api.check_discriminator(self.config, partial(_discriminate, self.backend, self.state.discriminator))

    def fit(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        steps: int = 1000,
        callbacks: Sequence[Every] = (),
    ) -> Self:
        """Train for ``steps`` steps more.

        Args:
            images: uint8 (image, height, width) or (image, height, width, channel); brought to the GAN's size.
            labels: integers (image,), needed where ``class_conditional`` is set.
            steps: generator updates.
            callbacks: entries such as ``Every(100, function)``: after every 100 steps ``function(event)`` is called,
                with ``event.step``, ``event.numbers()``, ``event.samples()`` and what else ``Event`` lists. Numbers
                that it returns by name are added to ``history``. What it raises ends ``fit``.

        Returns:
            The trained GAN: in PyTorch this one, in JAX a new one, beside which this one stays as it was.

        Raises:
            UserError: the images or callbacks cannot be used, or the losses are no longer finite. Whatever is raised,
                this GAN stays as it was.
        """
        dataset = gan_api.dataset(images, labels, self.config)
        config = gan_api.prolonged(self.config, self.steps_done, steps)
        with gan_api.FitLog(config, self.steps_done, callbacks) as log:
            # A copy: the steps take over the memory of the state that they are given.
            state = self.backend.copy(self.state)
            state, done, _ = play(self.backend, config, state, dataset, self.steps_done, log.hooks, remedy=log.remedy)
        trained = copy.copy(self)
        trained.state, trained.steps_done = state, done
        trained.history = [*self.history, *log.history]
        return trained

    def sample(
        self,
        num_images: int = 64,
        seed: int = 0,
        labels: np.ndarray | None = None,
        ema: bool = True,
        truncation: float | None = None,
    ) -> np.ndarray:
        """Make images.

        Args:
            num_images: how many.
            seed: image i follows from the seed, i and its label alone.
            labels: integers (image,); the classes in turn when not given.
            ema: whether the averaged generator makes them.
            truncation: the largest number in a latent, above 0: lower is more typical and less varied (Brock et al.
                2019).

        Returns:
            uint8 (image, height, width, channel), in NumPy.

        Raises:
            UserError: a number or a label cannot be used.
        """
        inputs = gan_api.inputs(self.config, num_images, seed, labels, truncation)
        return np.concatenate(list(generate_images([TrainedGenerator(self.backend, self.state)], [inputs], ema)))

    def __call__(self, latents: Array, labels: Array | None = None) -> Array:
        """Make images with the averaged generator.

        Args:
            latents: floating (batch, latent).
            labels: integers (batch,), needed where ``class_conditional`` is set.

        Returns:
            Images (batch, height, width, channel) in the generator's range, axes in the order of the framework.
        """
        with self.backend.precision_scope():
            images, _ = models.call(self.state.generator_ema, latents, labels, train=False)
        return images

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder, of everything, that either backend's ``load`` and ``sample`` read.

        Args:
            path: the folder; an older checkpoint there is replaced.

        Raises:
            UserError: it cannot be written.
        """
        written_by = {"backend": self.backend.name, **self.backend.versions()}
        data = {"name": MEMORY, "fingerprint": ""}
        config = self.config.with_options(steps=max(1, self.steps_done))
        checkpoint.write(Path(path), config, self.backend.export(self.state), written_by, data)

    def push_to_hub(self, repository: str, private: bool = False, license: str | None = None) -> str:
        """Publish the averaged generator on the Hugging Face Hub, with a model card and 64 of its images.

        Neither the discriminator nor the state of the optimisers goes there; ``save`` keeps those. Whoever is logged
        in (``hf auth login``, or the variable HF_TOKEN) is its owner.

        Args:
            repository: USER/NAME, which is made where it is not there.
            private: whether a new repository is for its owner alone.
            license: of the weights, by its identifier on the Hub; the card names none when not given.

        Returns:
            The address of the repository.

        Raises:
            UserError: a network has no name, so that nobody could build it, or the Hub refuses it or is out of reach.
        """
        return hub.publish(TrainedGenerator(self.backend, self.state), hub.Publication(repository, private, license))

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None, device: str = "auto") -> Self:
        """Read the generator in a folder or a repository of the Hugging Face Hub; its discriminator is a new one.

        Args:
            source: a folder, or USER/NAME on the Hub, which is fetched once and kept.
            revision: branch, tag or commit of the repository; its newest when not given.
            device: cpu, gpu, or auto.

        Returns:
            A GAN at step 0, whichever backend it was trained in.

        Raises:
            UserError: there is no such generator, or the Hub is out of reach.
        """
        with hub.fetched(source, revision) as folder:
            return cls.load(folder, device=device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        device: str = "auto",
    ) -> Self:
        """Read the GAN in a checkpoint folder, or in the newest of a run folder, of either backend.

        Args:
            path: the folder; or that of a generator alone, whose discriminator is then a new one.
            generator: the user's own module, where the GAN was made with one.
            discriminator: likewise.
            device: cpu, gpu, or auto, whatever the GAN was trained on.

        Returns:
            The GAN as it was saved, with an empty ``history``.

        Raises:
            UserError: there is no good checkpoint, it needs a module, or an argument is not a module.
        """
        loaded = checkpoint.load_newest(Path(path))
        gan = cls.__new__(cls)
        gan.config, gan.history = loaded.config.with_options(device=device), []
        validate(gan.config)
        gan_api.check_condition(gan.config)
        gan_api.check_modules(nn.Module, generator, discriminator)
        gan.backend = _backend(gan.config, generator, discriminator)
        with gan_api.applying_own_modules(gan.config):
            gan.state, gan.steps_done = gan.backend.restore(checkpoint.completed(gan.backend, loaded)), loaded.step
            gan_api.check_generator(gan.backend, gan.state)
        return gan


def _discriminate(
    backend: Backend, discriminator: Network, images: np.ndarray, labels: np.ndarray | None
) -> np.ndarray:
    """Return the logits of images (batch, height, width, channel) as evaluation has them."""
    with backend.precision_scope():
        given = None if labels is None else jnp.asarray(labels, jnp.int32)
        logits, _ = models.call(discriminator, jnp.asarray(images, backend.dtype), given, train=False)
    return np.asarray(logits)


def _backend(config: Config, generator: object, discriminator: object) -> Backend:
    """Build the backend, with the user's own modules where they are given."""
    return Backend(
        config,
        models.Networks(
            generator if isinstance(generator, nn.Module) else models.generator(config),
            discriminator if isinstance(discriminator, nn.Module) else models.discriminator(config),
        ),
    )
