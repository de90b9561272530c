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


class Judgement(NamedTuple):
    """What a discriminator update reports.

    Attributes:
        loss: mean discriminator loss.
        real_logit: mean logit of the reals.
        fake_logit: mean logit of the fakes.
    """

    loss: Array
    real_logit: Array
    fake_logit: Array


def make_step(config: Config) -> Callable[..., tuple[State, dict[str, Array]]]:
    """Build the step of ``config``: (state, images, latents, knobs) -> (state, scalars).

    images: uint8 (update, batch, height, width, channel); latents: (update, batch, latent) in the computing type,
    one row more than there are discriminator updates where the generator's latents are fresh. The statistics
    of batch normalisation advance once in every forward: in the generator once per row of latents, in the
    discriminator twice per discriminator update (reals, then fakes) and once in the generator's update.
    """
    loss, adam = LOSSES[config.loss], Adam(config.beta1)
    generator, discriminator = models.generator(config), models.discriminator(config)

    def step(state: State, images: Array, latents: Array, knobs: Knobs) -> tuple[State, dict[str, Array]]:
        finite = jnp.ones((), bool)
        for update in range(config.discriminator_updates):
            # Where the generator's update reuses the last fakes, their pullback is kept for it.
            state, fakes, pullback = generate(state, latents[update])
            state, judged = update_discriminator(state, to_float(images[update], latents.dtype), fakes, knobs)
            finite &= jnp.isfinite(judged.loss)
        if config.fresh_latents:
            state, fakes, pullback = generate(state, latents[-1])
        state, generator_loss = update_generator(state, fakes, pullback, knobs)
        finite &= jnp.isfinite(generator_loss)
        state = update_average(state, knobs)
        state = count_step(state, finite)
        return state, {
            "discriminator_loss": judged.loss,
            "generator_loss": generator_loss,
            "real_logit": judged.real_logit,
            "fake_logit": judged.fake_logit,
            "first_non_finite_step": state.first_non_finite_step,
        }

    def generate(state: State, latents: Array) -> tuple[State, Array, Callable]:
        """Make fakes, and the function that pulls their gradient back to the generator's parameters."""

        def forward(parameters):
            return _forward(generator, parameters, state.generator, latents)

        fakes, pullback, buffers = jax.vjp(forward, state.generator["params"], has_aux=True)
        return state._replace(generator={**state.generator, **buffers}), fakes, pullback

    def update_discriminator(
        state: State, reals: Array, fakes: Array, knobs: Knobs
    ) -> tuple[State, Judgement]:
        """Judge reals, then fakes, and move the discriminator down its loss."""

        def mean_loss(parameters):
            real_logits, buffers = _forward(discriminator, parameters, state.discriminator, reals)
            fake_logits, buffers = _forward(discriminator, parameters, buffers, fakes)
            mean = loss.discriminator(real_logits, fake_logits).mean()
            return mean, (Judgement(mean, real_logits.mean(), fake_logits.mean()), buffers)

        parameters = state.discriminator["params"]
        gradients, (judged, buffers) = jax.grad(mean_loss, has_aux=True)(parameters)
        parameters, moments = adam.update(
            parameters,
            gradients,
            state.discriminator_moments,
            knobs.discriminator_learning_rate,
            knobs.beta2_complement,
        )
        discriminator_state = {"params": parameters, **buffers}
        return state._replace(discriminator=discriminator_state, discriminator_moments=moments), judged

    def update_generator(
        state: State, fakes: Array, pullback: Callable, knobs: Knobs
    ) -> tuple[State, Array]:
        """Judge fakes and move the generator down its loss."""

        def mean_loss(images):
            logits, buffers = _forward(
                discriminator, state.discriminator["params"], state.discriminator, images
            )
            return loss.generator(logits).mean(), buffers

        (mean, buffers), gradient = jax.value_and_grad(mean_loss, has_aux=True)(fakes)
        (gradients,) = pullback(gradient)
        parameters, moments = adam.update(
            state.generator["params"],
            gradients,
            state.generator_moments,
            knobs.generator_learning_rate,
            knobs.beta2_complement,
        )
        state = state._replace(
            generator={**state.generator, "params": parameters},
            discriminator={**state.discriminator, **buffers},
            generator_moments=moments,
        )
        return state, mean

    return step


def to_float(images: Array, dtype: Any) -> Array:
    """Map uint8 images (batch, height, width, channel) to [-1, 1]."""
    return images.astype(dtype) / 127.5 - 1


def to_uint8(images: Array) -> Array:
    """Map images (batch, height, width, channel) in [-1, 1] to the nearest uint8, ties to even."""
    return jnp.rint((images + 1) * 127.5).clip(0, 255).astype(jnp.uint8)


def update_average(state: State, knobs: Knobs) -> State:
    """Move the averaged generator: decay * average + (1 - decay) * generator; integers are copied."""

    def move(average: Array, current: Array) -> Array:
        if not jnp.issubdtype(current.dtype, jnp.floating):
            return current
        return knobs.ema_decay * average + (1 - knobs.ema_decay) * current

    return state._replace(generator_ema=jax.tree.map(move, state.generator_ema, state.generator))


def count_step(state: State, finite: Array) -> State:
    """Advance the step and remember the first one whose losses were not ``finite``."""
    step = state.step + 1
    first = state.first_non_finite_step
    first = jnp.where((first == 0) & ~finite, step, first)
    return state._replace(step=step, first_non_finite_step=first)


def _forward(
    network: nn.Module, parameters: Any, variables: dict[str, Any], x: Array
) -> tuple[Array, dict[str, Any]]:
    """Apply ``network`` in training mode to ``x``; return its result and its advanced buffers."""
    buffers = {name: tree for name, tree in variables.items() if name != "params"}
    return network.apply({"params": parameters, **buffers}, x, train=True, mutable=["batch_stats"])
