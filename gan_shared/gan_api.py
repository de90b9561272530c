"""What the Python API (``gan.py`` of each backend) has without tensors: configuration, data in memory, hooks of fit."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gan_shared import data, legacy
from gan_shared.backend import Backend, Inputs, State
from gan_shared.config import Config
from gan_shared.config import options as all_options
from gan_shared.data import Dataset
from gan_shared.data.batches import check_batch_size
from gan_shared.data.in_memory import as_array, from_array, from_items, is_array
from gan_shared.data.source import check_labels
from gan_shared.errors import UserError, is_whole, unexpected
from gan_shared.hooks import Event, Every, ScalarLog
from gan_shared.image_conditions import is_image_conditional
from gan_shared.latents import LatentSource, check_request
from gan_shared.manifest import MEMORY
from gan_shared.option_groups import CUSTOM, CUSTOM_PAIRED, ENDLESS
from gan_shared.options import Value
from gan_shared.own import Own, separated
from gan_shared.progress import Progress
from gan_shared.sample import check_class_ids, inputs_of
from gan_shared.train import class_names
from gan_shared.validation import typed

# Other names of networks, as users write them.
ALIASES = {"cnn": "dcgan"}
# Options that fit() and the constructor's own parameters decide; fit() trains on all images that it is given and writes
# nothing: checkpoints and grids are the user's to ask for.
DECIDED = (
    *("preset", "data", "data_manifest", "data_key", "exclude", "holdout", "steps", "init_from", "earlier_batch_sizes"),
    *("evaluate_every", "evaluate_images", "sample_every", "save_every", "keep_checkpoints", "rollbacks"),
)
# Losses that a discriminator may end in any function for.
LOSSES_OF_ANY_NUMBER = ("mse", CUSTOM, CUSTOM_PAIRED)
# The value of an option, or what NumPy makes of one.
Option = Value | np.generic
# What ``fit`` trains on: an array, a path, or a data set whose items are read by number.
Images: TypeAlias = Any


def configure(
    module: type, generator: object, discriminator: object, optimizer: object, options: Mapping[str, object]
) -> tuple[Config, Own]:
    """Return the configuration of a GAN, and the loss and the optimisers of the user's own.

    Args:
        module: what the framework's modules are instances of.
        generator: a network's name, or a module of the user's own.
        discriminator: likewise.
        optimizer: of both networks, a name or one of the user's own; ``generator_optimizer`` and
            ``discriminator_optimizer`` override it.
        options: any other option, by its name; ``loss`` may be the user's own as well.

    Raises:
        UserError: an option is unknown or a value cannot work.
    """
    legacy.check_keywords(options)
    known = sorted(all_options().keys() - set(DECIDED))
    for name in options:
        if name in DECIDED:
            raise unexpected(
                name, options[name], "nothing, as fit() decides it and writes no files: see save and callbacks"
            )
        if name not in known:
            raise unexpected("option", repr(name), "the name of an option", known)
    for network, given in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(given, (str, module)):
            raise unexpected(network, repr(given), f"a name, or an instance of {module.__module__}.{module.__name__}")
        if isinstance(given, str):
            legacy.check_family(given, network)
    names = {
        "generator": ALIASES.get(generator, generator) if isinstance(generator, str) else CUSTOM,
        "discriminator": ALIASES.get(discriminator, discriminator) if isinstance(discriminator, str) else CUSTOM,
    }
    both = {"generator_optimizer": optimizer, "discriminator_optimizer": optimizer}
    never = {"sample_every": ENDLESS, "save_every": ENDLESS}
    given, own = separated({**both, **options})
    given = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    values: dict[str, Any] = {**names, **never, **given, "data": MEMORY}
    # Through JSON's types, so that a wrong type is refused now and what was trained can be saved.
    config = typed(Config().with_values(values).to_json())
    check_condition(config)
    if config.data.channels is None:
        raise unexpected("channels", None, "1 (grey) or 3 (RGB)")
    if config.data.class_conditional and config.data.num_classes is None:
        raise unexpected("num_classes", None, "their number, as class_conditional is True")
    return config, own


def check_condition(config: Config) -> None:
    """Refuse an image-conditional generator, which is trained and sampled on the command line.

    Raises:
        UserError: naming it.
    """
    levels = config.image_condition.pyramid_levels
    if levels or is_image_conditional(config):
        found = f"pyramid_levels {' '.join(map(str, levels))}" if levels else f"generator {config.networks.generator}"
        raise unexpected("GAN", found, "a generator without input images; the command line trains the others")


def check_modules(module: type, generator: object, discriminator: object) -> None:
    """Refuse an argument of ``load`` that is not a module.

    Args:
        module: what the framework's modules are instances of.
        generator: a module of the user's own, or None.
        discriminator: likewise.

    Raises:
        UserError: naming the network.
    """
    for network, given in (("generator", generator), ("discriminator", discriminator)):
        if given is not None and not isinstance(given, module):
            expected = f"an instance of {module.__module__}.{module.__name__}, or nothing for a network with a name"
            raise unexpected(network, repr(given), expected)


def check_generator(backend: Backend, state: State) -> None:
    """Refuse a generator of the user's own that makes images of another size.

    Raises:
        UserError: naming both sizes.
    """
    config = backend.config
    if config.networks.generator == CUSTOM:
        made, wanted = backend.sample(state, inputs(config, 2, 0, None)).shape, (2, *config.image_shape)
        if made != wanted:
            found, expected = (" x ".join(map(str, shape)) for shape in (made, wanted))
            raise unexpected("generator", f"images {found}", f"{expected} (batch, height, width, channels)")


@contextmanager
def applying_own_modules(config: Config) -> Iterator[None]:
    """Turn what a module of the user's own raises when it is applied into one line.

    Raises:
        UserError: naming what the module raised and what it is given.
    """
    try:
        yield
    except (UserError, MemoryError, Warning):
        raise
    except Exception as error:
        if "memory" in str(error).lower():  # the device's, which the command line reports
            raise
        own = [name for name in ("generator", "discriminator") if getattr(config.networks, name) == CUSTOM]
        if not own:
            raise
        inputs = {"generator": "latents (batch, latent)", "discriminator": "images (batch, height, width, channel)"}
        taken = " and ".join(f"a {name} of {inputs[name]}" for name in own)
        message = " ".join(str(error).split())
        found = f"a module that raises {type(error).__name__}: {message}"
        expected = f"{taken}, axes in the order of the framework, that draws no random numbers"
        raise unexpected(" or ".join(own), found, expected) from error


def check_discriminator(config: Config, discriminate: Callable[[np.ndarray, np.ndarray | None], np.ndarray]) -> None:
    """Warn of a discriminator of the user's own that seems to end in a sigmoid, where the loss takes logits.

    Args:
        config: of the GAN.
        discriminate: images float32 (batch, height, width, channel) and labels (batch,) or None to logits.
    """
    if config.networks.discriminator != CUSTOM or config.objective.loss in LOSSES_OF_ANY_NUMBER:
        return
    count = 16
    images = np.random.default_rng(0).normal(0, 30, (count, *config.image_shape)).astype(np.float32)
    labels = np.zeros(count, np.int64) if config.data.class_conditional else None
    logits = discriminate(images, labels)
    # Logits of such images are far from 0, on either side.
    if logits.size and 0 <= logits.min() < logits.max() <= 1:
        warnings.warn(
            f"discriminator: found numbers from {logits.min():.3g} to {logits.max():.3g}, as if it ended in a sigmoid; "
            f"loss {config.objective.loss} expects logits",
            stacklevel=3,
        )


def prolonged(config: Config, steps_done: int, steps: int) -> Config:
    """Return the configuration of ``steps`` steps more.

    Raises:
        UserError: there are none to do.
    """
    if not is_whole(steps) or not 1 <= steps <= ENDLESS - steps_done:
        raise unexpected("steps", steps, f"a number from 1 to {ENDLESS - steps_done}")
    return config.with_options(steps=steps_done + int(steps))


def dataset(images: object, labels: object, config: Config) -> Dataset:
    """Return images as a set of the configuration's size.

    Args:
        images: a path or a name, see ``data.load``; an array, or a data set: see ``data/in_memory.py``.
        labels: integers (N,), where the images have none of their own; or None.
        config: whose resolution and channels the images are brought to.

    Raises:
        UserError: the images or labels cannot be used.
    """
    height, _, channels = config.image_shape
    if isinstance(images, (str, Path)):
        made = _from_path(str(images), labels, config)
    else:
        read = from_array if is_array(images) else from_items
        made = read(images, labels, MEMORY, height, channels)
    if config.data.class_conditional:
        made = _with_classes(made, config)
    check_batch_size(made, config)
    return made


def _from_path(images: str, labels: object, config: Config) -> Dataset:
    """Return the images at a path or of a name, with the labels that they have."""
    if labels is not None:
        raise unexpected("labels", "an argument", f"none, as {images} has labels of its own, or none")
    try:
        return data.load(images, config.data.resolution, config.data.channels)
    except UserError as error:  # it names the option data
        raise UserError(re.sub("^data:", "images:", str(error))) from error


def _with_classes(made: Dataset, config: Config) -> Dataset:
    """Return a set with names for the classes of the configuration alone.

    Raises:
        UserError: it has no labels, or more classes.
    """
    if made.labels is None:
        why = f"; there are none because of {made.no_labels}" if made.no_labels else ""
        raise unexpected("labels", None, f"the class of each image, as class_conditional is True{why}")
    # Of a stack of labels every number may come.
    count = len(made.class_names) if made.stacked > 1 else int(made.labels.max()) + 1
    if count > config.num_classes:
        raise unexpected("labels", f"{count} classes", f"at most {config.num_classes}, as num_classes says")
    return made._replace(class_names=made.class_names[: config.num_classes])


def known_classes(before: tuple[str, ...], made: Dataset, config: Config) -> tuple[str, ...]:
    """Return the names of a GAN's classes after it is trained on a set; those without a name go by their numbers.

    Raises:
        UserError: the set gives the classes other names than the set before.
    """
    if not config.data.class_conditional:
        return ()
    numbers = tuple(map(str, range(config.num_classes)))
    names = tuple(class_names(config, made))
    before = (*before, *numbers[len(before) :])[: len(numbers)]
    for number, old, new in zip(numbers, before, names, strict=True):
        if number not in (old, new) and old != new:
            expected = f"{old!r}, as in the images that the GAN was trained on before"
            raise unexpected("images", f"the name {new!r} for class {number}", expected)
    return tuple(old if new == number else new for number, old, new in zip(numbers, before, names, strict=True))


def written_data(names: tuple[str, ...]) -> dict[str, object]:
    """Return what a GAN's checkpoint records of its images: nothing but the names of its classes."""
    return {"name": MEMORY, "fingerprint": "", "class_names": list(names)}


def trial_images(config: Config) -> tuple[np.ndarray, np.ndarray | None]:
    """Return noise to try networks with: float32 (4, height, width, channel), and labels (4,) or None."""
    images = np.random.default_rng(0).uniform(-1, 1, (4, *config.image_shape)).astype(np.float32)
    return images, np.zeros(4, np.int64) if config.data.class_conditional else None


def inputs(
    config: Config, num_images: int, seed: int, labels: np.ndarray | None, truncation: float | None = None
) -> Inputs:
    """Return what ``num_images`` samples are made from; the classes in turn where no labels are given."""
    latents = LatentSource(seed, truncation=truncation)
    check_request(num_images, latents)
    (made,) = inputs_of([config], latents, num_images, check_class_ids(config, ()))
    if labels is None:
        return made
    numbers, _ = check_labels("labels", as_array("labels", labels), num_images)
    check_class_ids(config, tuple(int(number) for number in np.unique(numbers)))
    return made._replace(labels=numbers)


class FitLog:
    """The entries that ``fit`` shows its progress and keeps its history with; use it as a context.

    Args:
        config: the run, whose last step is that of ``fit``.
        start: steps done before.
        callbacks: the user's entries.

    Attributes:
        hooks: the entries for ``train.play``.
        history: the logged steps, one dictionary of numbers each.

    Raises:
        UserError: a callback is no entry.
    """

    def __init__(self, config: Config, start: int, callbacks: Iterable[Every]) -> None:
        entries = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
        for entry in entries:
            if not isinstance(entry, Every) or entry is callbacks:
                raise unexpected("callbacks", repr(entry), "entries such as Every(100, function)")
        self._progress = Progress("", config.execution.steps, start)
        self.history: list[dict[str, float]] = []
        # Nothing is drawn or saved: that is the user's to ask for.
        self.hooks = [
            Every(None, self._progress.advance),
            *ScalarLog(self._remember).hooks((config.execution.log_every,), entries),
        ]

    def __enter__(self) -> "FitLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.close()

    def remedy(self) -> str:
        """Name what is left to go on from."""
        return "begin again, or from a GAN that was saved"

    def _remember(self, event: Event, numbers: dict[str, float]) -> None:
        """Keep the numbers of a step and show its losses."""
        self.history.append({"step": event.step, **numbers})
        self._progress.show(f"D {numbers['discriminator_loss']:.3f} G {numbers['generator_loss']:.3f}")
