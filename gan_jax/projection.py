"""The steps of a projection: Adam on latents, towards those whose images are most like a target."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.examples import generate
from gan_jax.network import Network
from gan_jax.optimizers import Adam, OptimizerState
from gan_shared.config import Config
from gan_shared.projection import BETA1, SQUARE_DECAY_COMPLEMENT, longest

ADAM = Adam(BETA1)


class Search(NamedTuple):
    """Where a projection is.

    Attributes:
        latents: (batch, latent), each moved apart from the others.
        optimizer_state: what Adam keeps of them.
    """

    latents: Array
    optimizer_state: OptimizerState


def begin(latents: Array) -> Search:
    """Return the search that begins at latents (batch, latent)."""
    return Search(latents, ADAM.init({"latents": latents}))


def advance(
    config: Config,
    network: Network,
    search: Search,
    target: Array,
    labels: Array | None,
    learning_rate: Array | float,
) -> Search:
    """Move every latent by one step of Adam, and back to the longest that a latent may be.

    Args:
        config: the run.
        network: the generator or its average, in evaluation mode; it stays as it is.
        search: where the latents are; it must not be used again.
        target: (1, height, width, channel), in the generator's range.
        labels: (batch,), or weights (batch, class), or None.
        learning_rate: step size.
    """

    def loss(latents: Array) -> Array:
        images, _ = generate(config, network, latents, labels, None, train=False)
        return difference(images, target).sum()

    moved, optimizer_state = ADAM.update(
        {"latents": search.latents},
        {"latents": jax.grad(loss)(search.latents)},
        search.optimizer_state,
        learning_rate,
        SQUARE_DECAY_COMPLEMENT,
    )
    return Search(shortened(moved["latents"], longest(search.latents.shape[1])), optimizer_state)


def difference(images: Array, target: Array) -> Array:
    """Return the mean squared difference of the pixels of each image from a target, (batch,).

    Differences of halved images beside it brought no projection nearer: the first latents are the best of many.

    Args:
        images: (batch, height, width, channel).
        target: (1, height, width, channel).
    """
    return jnp.square(images - target).mean((1, 2, 3))


def shortened(latents: Array, most: float) -> Array:
    """Scale latents (batch, latent) that are longer than ``most`` to that length."""
    lengths = jnp.sqrt(jnp.square(latents).sum(1, keepdims=True))
    return jnp.where(lengths > most, latents * (most / jnp.maximum(lengths, most)), latents)
