"""What the library face (``gan.py`` of each backend) has without tensors: configuration, data in memory, progress."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

import numpy as np
from tqdm import tqdm

from gan_shared.backend import Backend, Inputs, State
from gan_shared.config import CUSTOM, Config
from gan_shared.data import Dataset
from gan_shared.data.arrays import checked_shape, fitted
from gan_shared.data.batches import check_batch_size
from gan_shared.data.source import check_labels
from gan_shared.errors import unexpected
from gan_shared.sample import check_classes, check_request, told
from gan_shared.validation import typed

# Other names of networks, as users write them.
ALIASES = {"cnn": "dcgan"}
# What a GAN's own checkpoint says about images that it has not seen or that had no name.
MEMORY = "images in memory"
# Options that fit() and the constructor's own parameters decide.
DECIDED = ("preset", "data", "steps", "init_from")
# As for a run of the command line.
MAX_STEPS = 2**40


def configure(
    module: type, generator: object, discriminator: object, optimizer: str, options: Mapping[str, Any]
) -> Config:
    """Return the configuration of a GAN.

    Args:
        module: what the framework's modules are instances of.
        generator: a network's name, or a module of the user's own.
        discriminator: likewise.
        optimizer: of both networks.
        options: any other field of Config.

    Raises:
        UserError: an option is unknown or a value cannot work.
    """
    known = sorted({field.name for field in fields(Config)} - set(DECIDED))
    for name in options:
        if name not in known:
            raise unexpected("option", repr(name), "a field of Config", known)
    for network, given in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(given, (str, module)):
            raise unexpected(network, repr(given), f"a name, or an instance of {module.__module__}.{module.__name__}")
    names = {
        "generator": ALIASES.get(generator, generator) if isinstance(generator, str) else CUSTOM,
        "discriminator": ALIASES.get(discriminator, discriminator) if isinstance(discriminator, str) else CUSTOM,
    }
    both = {"generator_optimizer": optimizer, "discriminator_optimizer": optimizer}
    # Checkpoints and grids are the user's to ask for.
    never = {"sample_every": 2**40, "save_every": 2**40}
    given = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    # Through JSON's types, so that a wrong type is told now and what was trained can be saved.
    config = typed(Config(**{**names, **both, **never, **given, "data": MEMORY}).to_json())
    check_unpictured(config)
    if config.channels is None:
        raise unexpected("channels", None, "1 (grey) or 3 (RGB)")
    if config.conditional and config.classes is None:
        raise unexpected("classes", None, "their number, as conditional is True")
    return config


def check_unpictured(config: Config) -> None:
    """Refuse a generator that is told of pictures: it is trained and sampled on the command line.

    Raises:
        UserError: naming it.
    """
    if config.levels or config.condition != "none":
        found = f"levels {' '.join(map(str, config.levels))}" if config.levels else f"generator {config.generator}"
        raise unexpected(
            "GAN", found, "a generator that is told nothing of pictures; the command line trains the others"
        )


def check_generator(backend: Backend, state: State) -> None:
    """Refuse a generator of the user's own that makes images of another size.

    Raises:
        UserError: naming both sizes.
    """
    config = backend.config
    if config.generator == CUSTOM:
        made, wanted = backend.sample(state, inputs(config, 2, 0, None)).shape, (2, *config.image_shape)
        if made != wanted:
            found, expected = (" x ".join(map(str, shape)) for shape in (made, wanted))
            raise unexpected("generator", f"images {found}", f"{expected} (batch, height, width, channels)")


def prolonged(config: Config, steps_done: int, steps: int) -> Config:
    """Return the configuration of ``steps`` steps more.

    Raises:
        UserError: there are none to do.
    """
    if not isinstance(steps, (int, np.integer)) or not 1 <= steps <= MAX_STEPS - steps_done:
        raise unexpected("steps", steps, f"a number from 1 to {MAX_STEPS - steps_done}")
    return replace(config, steps=steps_done + int(steps))


def dataset(images: np.ndarray, labels: np.ndarray | None, config: Config) -> Dataset:
    """Return images in memory as a set of the configuration's size.

    Args:
        images: uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3).
        labels: integers (N,), or None.
        config: whose resolution and channels the images are brought to.

    Raises:
        UserError: the images or labels cannot be used.
    """
    try:
        images = np.asarray(images)
    except ValueError as error:  # lists of different lengths
        raise unexpected("images", "no array", "uint8 of one shape") from error
    if images.dtype != np.uint8:
        raise unexpected("images", f"type {images.dtype}", "uint8, from 0 (black) to 255")
    shape = checked_shape("images", images.shape)
    height, _, channels = config.image_shape
    decoded = np.concatenate(list(fitted(iter([images.reshape(shape)]), height, channels)))
    digest = sha256(decoded.tobytes())
    numbers, classes = None, ()
    if labels is not None:
        numbers, classes = check_labels("labels", np.asarray(labels), len(decoded))
        digest.update(numbers.tobytes())
    if config.conditional and numbers is None:
        raise unexpected("labels", None, "the class of each image, as conditional is True")
    if config.conditional and len(classes) > config.class_count:
        raise unexpected("labels", f"{len(classes)} classes", f"at most {config.class_count}, as classes says")
    made = Dataset(MEMORY, decoded, numbers, classes, digest.hexdigest())
    check_batch_size(made, config)
    return made


def inputs(config: Config, num_images: int, seed: int, labels: np.ndarray | None) -> Inputs:
    """Return what ``num_images`` samples are made from; the classes in turn where no labels are given."""
    check_request(num_images, seed)
    (made,) = told([config], seed, num_images, check_classes(config, ()))
    if labels is None:
        return made
    numbers, _ = check_labels("labels", np.asarray(labels), num_images)
    check_classes(config, tuple(int(number) for number in np.unique(numbers)))
    return made._replace(labels=numbers)


class Progress:
    """A progress bar that remembers the scalars: who listens to ``fit``; use it as a context.

    Args:
        steps: the steps to come.
        start: steps done before.
    """

    def __init__(self, steps: int, start: int) -> None:
        self.history: list[dict[str, float]] = []
        shown = sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(total=start + steps, initial=start, unit="step", disable=not shown)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def advance(self, steps: int) -> None:
        """Move the bar."""
        self._bar.update(steps)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Remember what ``step`` reported and show its losses."""
        numbers = {name: float(value) for name, value in values.items()}
        self.history.append({"step": step, **numbers})
        self._bar.set_postfix_str(f"D {numbers['discriminator_loss']:.3f} G {numbers['generator_loss']:.3f}")

    def grid(self, step: int, make: Callable[[], np.ndarray]) -> None:
        """Nothing: pictures are made by ``sample``."""

    def save(self, export: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Nothing: a GAN is saved by ``save``."""

    def remedy(self) -> str:
        """Say what is left."""
        return "begin again, or from a GAN that was saved"
