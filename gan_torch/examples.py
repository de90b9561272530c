"""Images of one step and what the networks are given with them; images as bytes and as floats."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_shared.config import Config
from gan_shared.draws import Part
from gan_shared.image_conditions import condition_name
from gan_torch.image_conditions import IMAGE_CONDITIONS, downsample
from gan_torch.models import call
from gan_torch.state import State, compute_dtype


class StepInputs(NamedTuple):
    """The batch and the draws of one step on the device; see ``gan_shared/backend.py`` and ``draws.py``.

    Attributes:
        images: uint8 (row, batch, height, width, channel).
        labels: integers (row, batch), or None for networks without class labels.
        latents: (row, batch, latent), like all that follow in the type of the weights.
        interpolation: (update, batch), share of the real image in each interpolate.
        augment: (update, part, batch, number), whose axis 1 is a ``Part``: real, fake and interpolated images.
    """

    images: Tensor
    labels: Tensor | None
    latents: Tensor
    interpolation: Tensor
    augment: Tensor


class Examples(NamedTuple):
    """Images of one kind and what the networks are given with them.

    Attributes:
        images: (batch, height, width, channel), before augmentation.
        labels: (batch,), or None.
        augment: uniform numbers (batch, number) that augment the images.
        image_condition: what an image-conditional generator is given of them, or None.
    """

    images: Tensor
    labels: Tensor | None
    augment: Tensor
    image_condition: Tensor | None = None


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
    config: Config, network: nn.Module, latents: Tensor, labels: Tensor | None, image_condition: Tensor | None
) -> tuple[Tensor, nn.Module]:
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
    given = None if image_condition is None else image_condition.to(computed)
    images, advanced = call(network, latents.to(computed), labels, given)
    return images.to(latents.dtype), advanced


def pick(held: Tensor, indices: Tensor) -> Tensor:
    """Read uint8 images (row, batch, height, width, channel) from those held on the device.

    Args:
        held: (image, height, width, channel).
        indices: (row, batch), or (row, batch, member) where each member becomes the channels of one image.
    """
    picked = held[indices]
    return picked if indices.ndim == 2 else torch.cat(picked.unbind(2), -1)


def to_float(config: Config, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Map uint8 images (batch, height, width, channel) to the generator's range."""
    low = config.lowest_pixel
    return images.permute(0, 3, 1, 2).to(dtype) / (255 / (1 - low)) + low


def to_uint8(config: Config, images: Tensor) -> Tensor:
    """Map images (batch, height, width, channel) in the generator's range to the nearest uint8, ties to even."""
    low = config.lowest_pixel
    return ((images - low) * (255 / (1 - low))).round().clamp(0, 255).to(torch.uint8).movedim(1, -1)


def make_images(
    config: Config,
    network: nn.Module,
    image_condition_network: nn.Module | None,
    latents: Tensor,
    labels: Tensor | None,
    images: Tensor | None,
) -> Tensor:
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
    made, _ = generate(config, network, latents, labels, image_condition)
    return to_uint8(config, made)
