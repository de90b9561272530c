"""Modules of one's own for tests of the JAX backend; ``modules_torch.py`` has the same for torch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen


class Generator(linen.Module):
    """A linear layer, batch normalisation, which needs the mode as an argument, tanh."""

    @linen.compact
    def __call__(self, latents: jax.Array, train: bool = True) -> jax.Array:
        x = linen.Dense(144, bias_init=linen.initializers.constant(0.25), name="body")(latents)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.tanh(x).reshape(-1, 12, 12, 1)


class Discriminator(linen.Module):
    """A convolution and a linear layer; it has no modes."""

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = linen.Conv(4, (3, 3), padding="VALID", bias_init=linen.initializers.constant(0.25), name="body")(images)
        return linen.Dense(1, name="head")(linen.relu(x).reshape(len(x), -1))[:, 0]


class Rows(linen.Module):
    """A generator of rows of numbers, not of images."""

    @linen.compact
    def __call__(self, latents: jax.Array) -> jax.Array:
        return linen.Dense(256)(latents)


class Tutorial(linen.Module):
    """A generator of latents (batch, 1, 1, latent), as tutorials have it."""

    @linen.compact
    def __call__(self, latents: jax.Array) -> jax.Array:
        batch, _, _, size = latents.shape
        return linen.tanh(linen.Dense(144)(latents.reshape(batch, size))).reshape(-1, 12, 12, 1)


class Probability(linen.Module):
    """A discriminator that ends in a sigmoid."""

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return linen.sigmoid(Discriminator()(images))


class Dropping(linen.Module):
    """A discriminator with dropout."""

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return Discriminator()(linen.Dropout(0.5, deterministic=False)(images))


class Nothing(linen.Module):
    """A discriminator without parameters."""

    def __call__(self, images: jax.Array) -> jax.Array:
        return images.mean((1, 2, 3))


class Shaped(linen.Module):
    """Results of one shape, the batch first where that begins with 0, from a parameter of no use."""

    shape: tuple[int, ...]

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", linen.initializers.ones, ())
        return scale * x.sum() + jnp.zeros(self.shape if self.shape[0] else (len(x), *self.shape[1:]))


class Pair(Shaped):
    """Two results instead of one."""

    @linen.compact
    def __call__(self, x: jax.Array) -> Any:
        return super().__call__(x), x


def called(gan: Any, latents: np.ndarray) -> np.ndarray:
    """Return what a GAN makes of latents (batch, latent) when it is called: (batch, height, width, channel)."""
    return np.asarray(gan(latents))


def values(module: linen.Module, example: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return the parameters that a module begins with for this input and seed, by torch's names."""
    parameters = module.init(jax.random.key(seed), example)["params"]
    # (height, width, in, out) is (out, in, height, width) in torch, (in, out) is (out, in).
    return {
        f"{layer}.{'weight' if name in ('kernel', 'scale') else name}": np.moveaxis(array, (-1, -2), (0, 1))
        if (array := np.asarray(value)).ndim > 1
        else array
        for layer, tree in parameters.items()
        for name, value in tree.items()
    }
