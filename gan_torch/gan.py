"""The Python API: a GAN as one object, trained by the same loop as the command line."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gan_shared import checkpoint, gan_api, hub
from gan_shared.config import Config
from gan_shared.gan_api import Images, Option
from gan_shared.hooks import Every
from gan_shared.manifest import TRAINED
from gan_shared.own import Own, given_again, own_options
from gan_shared.paths import checked
from gan_shared.progress_bar import showing_progress
from gan_shared.sample import TrainedGenerator, generate_images
from gan_shared.train import play
from gan_shared.validation import validate
from gan_torch import models
from gan_torch.backend import Backend
from gan_torch.components import build_components, check_loss
from gan_torch.own_optimizer import own_optimizer
from gan_torch.state import State

# A loss of the user's own, and what makes an optimiser of theirs.
LossPair: TypeAlias = tuple[Callable[[Tensor, Tensor], Tensor], Callable[..., Tensor]]
OptimizerFactory: TypeAlias = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class GAN(nn.Module):
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
        loss: see ``docs/options.md``, which also lists the further options; or a pair of functions of the user's own,
            which return losses of the logits' shape or (batch,), not their mean: of (real logits, fake logits) for the
            discriminator; for the generator of (fake logits), or, where it pairs them, of (real logits, fake logits):
            the number of its parameters decides.
        optimizer: of both networks: adam, adamw, rmsprop or sgd; or one of the user's own: in PyTorch a function from
            a list of parameters to their torch.optim.Optimizer, in JAX an optax.GradientTransformation.
            ``generator_optimizer`` and ``discriminator_optimizer`` override it.
        resolution: height and width of the images in pixels.
        channels: colours of the images: 1 (grey) or 3 (RGB).
        options: further options by name, such as batch_size, generator_learning_rate, penalties, seed or device.

    Attributes:
        config: all options.
        steps_done: generator updates done.
        history: what ``fit`` has logged: of every ``log_every``-th step, of those at which a callback returned numbers,
            and of the last of each ``fit``, ``step`` and the losses and further numbers by name.
        class_names: names of the classes; none before the first ``fit``, or without classes.
        state: everything that training changes.
        backend: what computes.

    Raises:
        UserError: a value cannot work.
    """

    def __init__(
        self,
        generator: str | nn.Module = "cnn",
        discriminator: str | nn.Module = "cnn",
        loss: str | LossPair = "bce",
        optimizer: str | OptimizerFactory = "adam",
        resolution: int = 32,
        channels: int = 1,
        **options: Option | OptimizerFactory,
    ) -> None:
        super().__init__()
        given = {"loss": loss, "resolution": resolution, "channels": channels, **options}
        self.config, own = gan_api.configure(nn.Module, generator, discriminator, optimizer, given)
        self.backend = _backend(self.config, generator, discriminator, own)
        self.history: list[dict[str, float]] = []
        self.class_names: tuple[str, ...] = ()
        with gan_api.applying_own_modules(self.config):
            self._hold(self.backend.init(), 0)
            gan_api.check_generator(self.backend, self.state)
            gan_api.check_discriminator(self.config, partial(_discriminate, self.backend, self.discriminator))
        _check_components(self.backend, self.state)

    def fit(
        self,
        images: Images,
        labels: np.ndarray | None = None,
        steps: int = 1000,
        callbacks: Sequence[Every] = (),
        progress: bool = True,
    ) -> Self:
        """Train for ``steps`` steps more.

        Args:
            images: uint8 (image, height, width) or (image, height, width, channel); or a path or a name, as ``--data``
                takes; or a data set whose items are read by number: one of PyTorch, of images or (image, label), or a
                split of Hugging Face's ``datasets``. They are read once, into memory but for a path, and brought to
                the GAN's size; ``docs/python.md`` has more.
            labels: integers (image,), needed where ``class_conditional`` is set and the images have none of their own.
            steps: generator updates.
            callbacks: entries such as ``Every(100, function)``: after every 100 steps ``function(event)`` is called,
                with ``event.step``, ``event.numbers()``, ``event.samples()`` and what else ``Event`` lists. Numbers
                that it returns by name are added to ``history``. What it raises ends ``fit``.
            progress: whether to show how far it is: a bar in a notebook or a terminal, elsewhere a line every half
                minute and at the end.

        Returns:
            The trained GAN: in PyTorch this one, in JAX a new one, beside which this one stays as it was.

        Raises:
            UserError: the images or callbacks cannot be used, or the losses are no longer finite. Whatever is raised,
                this GAN stays as it was.
        """
        config = gan_api.prolonged(self.config, self.steps_done, steps)
        with showing_progress(progress):
            dataset = gan_api.dataset(images, labels, self.config)
        class_names = gan_api.known_classes(self.class_names, dataset, self.config)
        with showing_progress(progress), gan_api.FitLog(config, self.steps_done, callbacks) as log:
            # A copy: a fit that fails in the middle leaves this GAN as it was.
            state = self.backend.copy(self.state)
            # eval() may have been called on the whole, as on any module; training needs the other mode.
            state.generator.train()
            state.discriminator.train()
            state, done, _ = play(self.backend, config, state, dataset, self.steps_done, log.hooks, remedy=log.remedy)
        self._hold(state, done)
        self.history, self.class_names = [*self.history, *log.history], class_names
        return self

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
                2019). Categorical latents, as dcgan-deep has them, take one category each.

        Returns:
            uint8 (image, height, width, channel), in NumPy.

        Raises:
            UserError: a number or a label cannot be used.
        """
        inputs = gan_api.inputs(self.config, num_images, seed, labels, truncation)
        return np.concatenate(list(generate_images([TrainedGenerator(self.backend, self.state)], [inputs], ema)))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images with the averaged generator.

        Args:
            latents: floating (batch, latent).
            labels: integers (batch,), needed where ``class_conditional`` is set.

        Returns:
            Images (batch, height, width, channel) in the generator's range, axes in the order of the framework.
        """
        with self.backend.precision_scope():
            images, _ = models.call(self.generator_ema.eval(), latents, labels)
        return images

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder, of everything, that either backend's ``load`` and ``sample`` read.

        Args:
            path: the folder, ``~`` for the home folder; an older checkpoint there is replaced.

        Raises:
            UserError: it cannot be written.
        """
        written_by = {"backend": self.backend.name, **self.backend.versions()}
        data = gan_api.written_data(self.class_names)
        config = self.config.with_options(steps=max(1, self.steps_done))
        checkpoint.write(checked("path", path), config, self.backend.export(self.state), written_by, data)

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
        generator = TrainedGenerator(self.backend, self.state)
        return hub.publish(generator, self.class_names, hub.Publication(repository, private, license))

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
        *,
        loss: LossPair | None = None,
        optimizer: OptimizerFactory | None = None,
        generator_optimizer: OptimizerFactory | None = None,
        discriminator_optimizer: OptimizerFactory | None = None,
    ) -> Self:
        """Read the GAN in a checkpoint folder, or in the newest of a run folder, of either backend.

        Args:
            path: the folder; or that of a generator alone, whose discriminator is then a new one.
            generator: the user's own module, where the GAN was made with one.
            discriminator: likewise.
            device: cpu, gpu, or auto, whatever the GAN was trained on.
            loss: the user's own, where the GAN was made with one.
            optimizer: likewise, of both networks. The state of an optimiser belongs to its framework: the other backend
                loads it only where there is none.
            generator_optimizer: likewise, of the generator.
            discriminator_optimizer: likewise, of the discriminator.

        Returns:
            The GAN as it was saved, with an empty ``history``.

        Raises:
            UserError: there is no good checkpoint, something of the user's own is missing or another one, or an
                argument is no such thing or takes the place of a name.
        """
        loaded = checkpoint.load_newest(checked("path", path))
        gan = cls.__new__(cls)
        nn.Module.__init__(gan)
        gan.config, gan.history = loaded.config.with_options(device=device), []
        gan.class_names = loaded.class_names if gan.config.data.class_conditional else ()
        validate(gan.config)
        gan_api.check_condition(gan.config)
        gan_api.check_modules(nn.Module, generator, discriminator)
        own = given_again(gan.config, Own(loss, generator_optimizer, discriminator_optimizer), optimizer)
        gan.backend = _backend(gan.config, generator, discriminator, own)
        with gan_api.applying_own_modules(gan.config):
            gan._hold(gan.backend.restore(checkpoint.completed(gan.backend, loaded)), loaded.step)
            gan_api.check_generator(gan.backend, gan.state)
        _check_components(gan.backend, gan.state)
        return gan

    def _hold(self, state: State, steps_done: int) -> None:
        """Make a state this GAN's own, its networks its submodules."""
        self.state, self.steps_done = state, steps_done
        self.generator, self.discriminator = state.generator, state.discriminator
        self.generator_ema = state.generator_ema


def _discriminate(
    backend: Backend, discriminator: nn.Module, images: np.ndarray, labels: np.ndarray | None
) -> np.ndarray:
    """Return the logits of images (batch, height, width, channel) as evaluation has them."""
    training = discriminator.training
    try:
        with backend.precision_scope(), torch.no_grad():
            x = torch.from_numpy(images).to(backend.device, backend.dtype).permute(0, 3, 1, 2)
            given = None if labels is None else torch.from_numpy(labels).to(backend.device)
            logits, _ = models.call(discriminator.eval(), x, given)
    finally:
        discriminator.train(training)
    return logits.cpu().numpy()


def _check_components(backend: Backend, state: State) -> None:
    """Refuse a loss or an optimiser of the user's own that a step cannot use.

    Raises:
        UserError: naming what is wrong.
    """
    components = backend.components
    if "loss" in own_options(backend.config):
        logits = _discriminate(backend, state.discriminator, *gan_api.trial_images(backend.config))
        with backend.precision_scope():
            check_loss(components.loss, *(torch.from_numpy(half).to(backend.device) for half in np.split(logits, 2)))
    for network in TRAINED:
        if optimizer := own_optimizer(components.optimizer(network)):
            with backend.precision_scope():
                optimizer.check(dict(getattr(state, network).named_parameters()))


def _backend(config: Config, generator: object, discriminator: object, own: Own) -> Backend:
    """Build the backend, with what is the user's own where it is given."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        layers = network.modules() if isinstance(network, nn.Module) else ()
        drawing = {type(each).__name__ for each in layers if isinstance(each, _DropoutNd)}
        if drawing:
            warnings.warn(
                f"{name}: found {', '.join(sorted(drawing))}, which draws from PyTorch's own random numbers: "
                "the seed alone does not repeat a run",
                stacklevel=3,
            )
    return Backend(
        config,
        models.Networks(
            generator if isinstance(generator, nn.Module) else models.generator(config),
            discriminator if isinstance(discriminator, nn.Module) else models.discriminator(config),
        ),
        build_components(config, own),
    )
