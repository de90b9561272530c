"""Images of one step and what the networks are given with them; images as bytes and as floats."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from gan_jax.image_conditions import IMAGE_CONDITIONS, downsample
from gan_jax.models import call
from gan_jax.network import Network
from gan_jax.state import State, compute_dtype
from gan_shared.config import Config
from gan_shared.draws import Part
from gan_shared.image_conditions import condition_name


class StepInputs(NamedTuple):
    """The batch and the draws of one step on the device; see ``gan_shared/backend.py`` and ``draws.py``.

    Attributes:
        images: uint8 (row, batch, height, width, channel).
        labels: integers (row, batch), or None for networks without class labels.
        latents: (row, batch, latent), like all that follow in the type of the weights.
        interpolation: (update, batch), share of the real image in each interpolate.
        augment: (update, part, batch, number), whose axis 1 is a ``Part``: real, fake and interpolated images.
    """

    images: Array
    labels: Array | None
    latents: Array
    interpolation: Array
    augment: Array


class Examples(NamedTuple):
    """Images of one kind and what the networks are given with them.

    Attributes:
        images: (batch, height, width, channel), before augmentation.
        labels: (batch,), or None.
        augment: uniform numbers (batch, number) that augment the images.
        image_condition: what an image-conditional generator is given of them, or None.
    """

    images: Array
    labels: Array | None
    augment: Array
    image_condition: Array | None = None


def real_examples(config: Config, state: State, inputs: StepInputs, row: int) -> Examples:
    """Return the real examples of one row, at the size of this run, with the image condition made of them."""
    labels = None if inputs.labels is None else inputs.labels[row]
    images = to_float(config, inputs.images[row], inputs.latents.dtype)
    image_condition = IMAGE_CONDITIONS[condition_name(config)].compute(config, state.image_condition_network, images)
    images = downsample(images, config.data.resolution)
    return Examples(images, labels, inputs.augment[row, Part.REAL], image_condition)


def interpolate(inputs: StepInputs, row: int, real: Examples, fake: Examples) -> Examples:
    """Return interpolates of real and fake images, each pair in its own share (Gulrajani et al. 2017, algorithm 1)."""
    share = inputs.interpolation[row][:, None, None, None]
    images = fake.images + share * (real.images - fake.images)
    return Examples(images, real.labels, inputs.augment[row, Part.INTERPOLATED])


def generate(
    config: Config,
    network: Network,
    latents: Array,
    labels: Array | None,
    image_condition: Array | None,
    train: bool = True,
) -> tuple[Array, Network]:
    """Apply a generator, in the type that networks compute in.

    Args:
        config: the run.
        network: the generator or its average.
        latents: (batch, latent).
        labels: (batch,), or None.
        image_condition: what an image-conditional generator is given, or None.

    Returns:
        Images (batch, height, width, channel), in the type of the latents, and the network with advanced statistics.
    """
    computed = compute_dtype(config)
    given = None if image_condition is None else image_condition.astype(computed)
    images, advanced = call(network, latents.astype(computed), labels, given, train)
    return images.astype(latents.dtype), advanced


def pick(held: Array, indices: Array) -> Array:
    """Read uint8 images (row, batch, height, width, channel) from those held on the device.

    Args:
        held: (image, height, width, channel).
        indices: (row, batch), or (row, batch, member) where each member becomes the channels of one image.
    """
    picked = held[indices]
    return picked if indices.ndim == 2 else jnp.concatenate(jnp.unstack(picked, axis=2), -1)


def to_float(config: Config, images: Array, dtype: DTypeLike) -> Array:
    """Map uint8 images (batch, height, width, channel) to the generator's range."""
    low = config.lowest_pixel
    return images.astype(dtype) / (255 / (1 - low)) + low


def to_uint8(config: Config, images: Array) -> Array:
    """Map images (batch, height, width, channel) in the generator's range to the nearest uint8, ties to even."""
    low = config.lowest_pixel
    return jnp.rint((images - low) * (255 / (1 - low))).clip(0, 255).astype(jnp.uint8)


def make_images(
    config: Config,
    network: Network,
    image_condition_network: Network | None,
    latents: Array,
    labels: Array | None,
    images: Array | None,
) -> Array:
    """Make images with a generator in evaluation mode.

    Args:
        config: the run.
        network: the generator or its average.
        image_condition_network: computes the image condition; None where that needs no network.
        latents: (batch, latent), in the type of the weights.
        labels: integers (batch,), or None.
        images: uint8 (batch, height, width, channel) that an image condition is computed of, or None.

    Returns:
        uint8 (batch, height, width, channel).
    """
    image_condition = None
    if images is not None:
        floats = to_float(config, images, latents.dtype)
        image_condition = IMAGE_CONDITIONS[condition_name(config)].compute(config, image_condition_network, floats)
    made, _ = generate(config, network, latents, labels, image_condition, train=False)
    return to_uint8(config, made)
