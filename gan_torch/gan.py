"""The library face: a GAN as one object, driven by the same spine as the command line."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from gan_shared import checkpoint, library
from gan_shared.sample import Maker, make_images
from gan_shared.train import play
from gan_shared.validation import validate
from gan_torch import models
from gan_torch.backend import Backend


class GAN(nn.Module):
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
        super().__init__()
        options = {"loss": loss, "resolution": resolution, "channels": channels, **options}
        self.config = library.configure(nn.Module, generator, discriminator, optimizer, options)
        self.backend = _backend(self.config, generator, discriminator)
        self.history: list[dict[str, float]] = []
        self._hold(self.backend.init(), 0)
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
        # A copy: a fit that fails in the middle leaves this GAN as it was.
        state = self.backend.restore(self.backend.export(self.state))
        # Whoever has called eval() on the whole, as one does with a module, still means to train it.
        state.generator.train()
        state.discriminator.train()
        with library.Progress(steps, self.steps_done) as progress:
            state, done = play(self.backend, config, state, dataset, self.steps_done, progress)
        self._hold(state, done)
        self.history = [*self.history, *progress.history]
        return self

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

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images (batch, height, width, channel) in the generator's range with the averaged generator."""
        return models.call(self.generator_ema.eval(), latents, labels)

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
        nn.Module.__init__(gan)
        gan.config, gan.history = replace(loaded.config, device=device), []
        validate(gan.config)
        library.check_unpictured(gan.config)
        gan.backend = _backend(gan.config, generator or "", discriminator or "")
        gan._hold(gan.backend.restore(loaded.tensors), loaded.step)
        library.check_generator(gan.backend, gan.state)
        return gan

    def _hold(self, state: Any, steps_done: int) -> None:
        """Make a state this GAN's own, its networks its submodules."""
        self.state, self.steps_done = state, steps_done
        self.generator, self.discriminator = state.generator, state.discriminator
        self.generator_ema = state.generator_ema


def _backend(config: Any, generator: object, discriminator: object) -> Backend:
    """Build the backend, with the user's own modules where they are given."""
    return Backend(
        config,
        models.Networks(
            generator if isinstance(generator, nn.Module) else models.generator(config),
            discriminator if isinstance(discriminator, nn.Module) else models.discriminator(config),
        ),
    )
