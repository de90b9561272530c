"""The reconstruction loss of image-conditional generators, and one table of its terms."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from gan_jax.examples import Examples
from gan_jax.image_conditions import IMAGE_CONDITIONS
from gan_jax.state import State
from gan_shared.config import Config
from gan_shared.image_conditions import condition_name


class ReconstructionTerm(NamedTuple):
    """One term of the reconstruction loss.

    Attributes:
        weight: the option that weighs it; the term is left out at 0.
        error: (config, state, reals, fakes made from them) -> mean squared difference.
    """

    weight: Callable[[Config], float]
    error: Callable[[Config, State, Examples, Examples], Array]


def reconstruction_loss(config: Config, state: State, real: Examples, fake: Examples, like: Array) -> Array:
    """Return the weighted sum of ``RECONSTRUCTION_TERMS``, 0 where none has a weight.

    Those of pixels and of VGG16 features are after Dosovitskiy and Brox (2016), section 2, but means, not sums.

    Args:
        config: the run.
        state: holds the network of the image condition.
        real: images, with the image condition made of them.
        fake: what the generator made of that condition.
        like: the loss, whose type the result has.
    """
    weighted = [
        term.weight(config) * term.error(config, state, real, fake)
        for term in RECONSTRUCTION_TERMS.values()
        if term.weight(config)
    ]
    return sum(weighted, start=jnp.zeros_like(like))


def pixel_error(config: Config, state: State, real: Examples, fake: Examples) -> Array:
    """Return the mean squared difference of the images."""
    return jnp.square(fake.images - real.images).mean()


def feature_error(config: Config, state: State, real: Examples, fake: Examples) -> Array:
    """Return the mean squared difference of what the run's image condition makes of the images."""
    made = IMAGE_CONDITIONS[condition_name(config)].compute(config, state.image_condition_network, fake.images)
    assert made is not None and real.image_condition is not None, "a run without image condition has no such term"
    return jnp.square(made - real.image_condition).mean()


RECONSTRUCTION_TERMS = {
    "pixel": ReconstructionTerm(lambda config: config.image_condition.pixel_weight, pixel_error),
    "feature": ReconstructionTerm(lambda config: config.image_condition.feature_weight, feature_error),
}
