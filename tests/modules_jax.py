"""Modules of one's own for tests of the JAX backend; ``modules_torch.py`` has the same for torch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from gan_jax import losses


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


# Pairs of functions of one's own that are those of a named loss.
LOSSES: dict[str, Any] = {
    "bce": (losses.bce_discriminator, lambda fake: losses.bce_generator(None, fake)),
    "relativistic": (losses.relativistic_discriminator, losses.relativistic_generator),
    # One loss for each image, as a mean over the axes behind the first is.
    "wasserstein": (
        lambda real, fake: (fake - real).reshape(len(fake), -1).mean(1),
        lambda fake: -fake.reshape(len(fake), -1).mean(1),
    ),
}
# Pairs that are refused, and words of the line that says so.
WRONG_LOSSES: list[tuple[Any, str]] = [
    ((losses.bce_discriminator, lambda fake: -fake.mean()), "float32 of shape () (the generator's function returns"),
    ((lambda real, fake: (fake - real).mean(), max), "expected a name, or a pair of functions"),
    ((lambda real, fake: (fake - real).mean(), lambda fake: -fake), "shape () (the discriminator's"),
    ((lambda real, fake: fake[:1], lambda fake: -fake), "float32 of shape (1,)"),
    ((lambda real, fake: (fake - real).astype(jnp.bfloat16), lambda fake: -fake), "found bfloat16 of shape (2,)"),
    ((lambda real, fake: fake / 0, lambda fake: -fake), "found a number that is not finite"),
    ((lambda real, fake: fake - real, lambda fake: -np.array(fake)), "a function for the generator that raises Tracer"),
    ((lambda real, fake: fake if real.sum() > 0 else real, lambda fake: -fake), "discriminator that raises Tracer"),
    ((lambda real, fake: fake - real, lambda fake: fake.nothing), "a function for the generator that raises Attribute"),
    ((lambda real, fake: fake - real, lambda fake: jnp.sqrt(jnp.abs(fake - fake)) - fake), "derivative is not finite"),
]


def sgd(rate: float, momentum: float = 0.0) -> Any:
    """Return gradient descent as one's own optimiser."""
    return optax.sgd(rate, momentum or None)


# Adam of one's own; a chain of several rules; one whose state has numbers of its own, a falling rate.
adam = optax.adam(1e-3)
nested = optax.chain(optax.clip_by_global_norm(1.0), optax.masked(optax.amsgrad(1e-3), lambda tree: tree and True))
counting = optax.inject_hyperparams(optax.sgd)(optax.exponential_decay(0.1, 1, 0.75))

# What is refused as an optimiser, and words of the line that says so.
WRONG_OPTIMIZERS: list[tuple[Any, str]] = [
    (optax.adam, "expected a name, or an optax.GradientTransformation"),
    (lambda: optax.adam(1e-3), "expected a name, or an optax.GradientTransformation"),
    (("adam",), "found ('adam',), expected a name, or an optax.GradientTransformation"),
    (optax.GradientTransformation(lambda params: 1 / 0, optax.identity().update), "that raises ZeroDivisionError"),
    (optax.GradientTransformation(lambda tree: (), lambda tree, state: None), "that raises TypeError"),  # pyright: ignore
    (optax.GradientTransformation(lambda tree: "x", optax.identity().update), "that raises TypeError"),  # pyright: ignore
    (optax.adam(1e-3, mu_dtype=jnp.bfloat16), "of type bfloat16, expected arrays of NumPy's types"),
    (optax.add_noise(0.1, 0.5, jax.random.key(0)), "of type key<"),
]


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
