"""The game: discriminator updates, generator update, average of the generator."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gan_jax import models
from gan_jax.losses import LOSSES
from gan_jax.optimizers import Adam
from gan_jax.state import State
from gan_shared.config import Config
from gan_shared.schedules import Knobs


class DiscriminatorScalars(NamedTuple):
    """What a discriminator update reports.

    Attributes:
        loss: mean discriminator loss.
        real_logit: mean logit of the reals.
        fake_logit: mean logit of the fakes.
    """

    loss: Array
    real_logit: Array
    fake_logit: Array


class _Fakes(NamedTuple):
    """Generated images, and what brings their gradient back to the generator's parameters."""

    images: Array
    pullback: Callable[[Array], tuple[Any]]


def make_step(config: Config) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Build the step of ``config``: (state, images, latents, knobs) -> (state, scalars).

    images: uint8 (update, batch, height, width, channel); latents: (update, batch, latent) in the computing type,
    one row more than there are discriminator updates where the generator's latents are fresh. The statistics
    of batch normalisation advance once in every forward: in the generator once per row of latents, in the
    discriminator twice per discriminator update (reals, then fakes) and once in the generator's update.
    """
    updates = config.discriminator_updates

    def step(state: State, images: Array, latents: Array, knobs: Knobs) -> tuple[State, dict[str, Array]]:
        finite = jnp.ones((), bool)
        for update in range(updates):
            state, fakes = _generate(config, state, latents[update])
            reals = to_float(images[update], latents.dtype)
            state, reported = update_discriminator(config, state, reals, fakes, knobs)
            finite &= jnp.isfinite(reported.loss)
        if config.fresh_latents:
            state, fakes = _generate(config, state, latents[-1])
        state, generator_loss = update_generator(config, state, fakes, knobs)
        finite &= jnp.isfinite(generator_loss)
        state = count_step(update_average(state, knobs), finite)
        return state, {
            "discriminator_loss": reported.loss,
            "generator_loss": generator_loss,
            "real_logit": reported.real_logit,
            "fake_logit": reported.fake_logit,
            "first_non_finite_step": state.first_non_finite_step,
        }

    return step


def update_discriminator(
    config: Config, state: State, reals: Array, fakes: _Fakes, knobs: Knobs
) -> tuple[State, DiscriminatorScalars]:
    """Judge reals, then fakes, and move the discriminator down its loss."""
    discriminator = models.discriminator(config)

    def mean_loss(parameters: Any) -> tuple[Array, tuple[DiscriminatorScalars, dict[str, Any]]]:
        real_logits, buffers = _forward(discriminator, parameters, state.discriminator, reals)
        fake_logits, buffers = _forward(discriminator, parameters, buffers, fakes.images)
        loss = LOSSES[config.loss].discriminator(real_logits, fake_logits).mean()
        return loss, (DiscriminatorScalars(loss, real_logits.mean(), fake_logits.mean()), buffers)

    parameters = state.discriminator["params"]
    gradients, (reported, buffers) = jax.grad(mean_loss, has_aux=True)(parameters)
    parameters, moments = Adam(config.beta1).update(
        parameters,
        gradients,
        state.discriminator_moments,
        knobs.discriminator_learning_rate,
        knobs.beta2_complement,
    )
    moved = {"params": parameters, **buffers}
    return state._replace(discriminator=moved, discriminator_moments=moments), reported


def update_generator(config: Config, state: State, fakes: _Fakes, knobs: Knobs) -> tuple[State, Array]:
    """Judge fakes and move the generator down its loss."""
    discriminator, variables = models.discriminator(config), state.discriminator

    def mean_loss(images: Array) -> tuple[Array, dict[str, Any]]:
        logits, buffers = _forward(discriminator, variables["params"], variables, images)
        return LOSSES[config.loss].generator(logits).mean(), buffers

    (loss, buffers), gradient = jax.value_and_grad(mean_loss, has_aux=True)(fakes.images)
    (gradients,) = fakes.pullback(gradient)
    parameters, moments = Adam(config.beta1).update(
        state.generator["params"],
        gradients,
        state.generator_moments,
        knobs.generator_learning_rate,
        knobs.beta2_complement,
    )
    moved = {**state.generator, "params": parameters}
    state = state._replace(generator=moved, generator_moments=moments)
    return state._replace(discriminator={**variables, **buffers}), loss


def update_average(state: State, knobs: Knobs) -> State:
    """Move the averaged generator towards the generator by the weight ``ema_complement``; integers are copied."""
    weight = knobs.ema_complement

    def move(average: Array, current: Array) -> Array:
        if not jnp.issubdtype(current.dtype, jnp.floating):
            return current
        way = current - average
        # torch.lerp's two forms: each is exact at its own end.
        return jnp.where(weight < 0.5, average + weight * way, current - (1 - weight) * way)

    return state._replace(generator_ema=jax.tree.map(move, state.generator_ema, state.generator))


def count_step(state: State, finite: Array) -> State:
    """Advance the step and remember the first one whose losses were not ``finite``."""
    step = state.step + 1
    first = state.first_non_finite_step
    first = jnp.where((first == 0) & ~finite, step, first)
    return state._replace(step=step, first_non_finite_step=first)


def to_float(images: Array, dtype: Any) -> Array:
    """Map uint8 images (batch, height, width, channel) to [-1, 1]."""
    return images.astype(dtype) / 127.5 - 1


def to_uint8(images: Array) -> Array:
    """Map images (batch, height, width, channel) in [-1, 1] to the nearest uint8, ties to even."""
    return jnp.rint((images + 1) * 127.5).clip(0, 255).astype(jnp.uint8)


def _generate(config: Config, state: State, latents: Array) -> tuple[State, _Fakes]:
    """Make fakes from latents (batch, latent); the generator's statistics advance."""

    def forward(parameters: Any) -> tuple[Array, dict[str, Any]]:
        return _forward(models.generator(config), parameters, state.generator, latents)

    images, pullback, buffers = jax.vjp(forward, state.generator["params"], has_aux=True)
    return state._replace(generator={**state.generator, **buffers}), _Fakes(images, pullback)


def _forward(network: nn.Module, parameters: Any, variables: dict[str, Any], x: Array) -> Any:
    """Apply ``network`` in training mode to ``x``; return its result and its advanced buffers."""
    buffers = {name: tree for name, tree in variables.items() if name != "params"}
    return network.apply({"params": parameters, **buffers}, x, train=True, mutable=["batch_stats"])
