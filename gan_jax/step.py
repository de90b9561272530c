"""The game: discriminator updates, generator update, average of the generator."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax import optimizers
from gan_jax.augment import augment
from gan_jax.conditions import CONDITIONS, lowered
from gan_jax.losses import LOSSES, PENALTIES
from gan_jax.models import call
from gan_jax.network import Network
from gan_jax.state import State, compute_dtype
from gan_shared.config import Config
from gan_shared.schedules import Knobs
from gan_shared.trace import note
from gan_shared.validation import check_logits

# Steps between two moves of the adaptive probability (Karras et al. 2020, arXiv:2006.06676, section 3.2).
ADAPT_EVERY = 4


class StepInputs(NamedTuple):
    """The batch and the draws of one step on the device; see ``gan_shared/backend.py`` and ``draws.py``.

    Attributes:
        images: uint8 (row, batch, height, width, channel).
        labels: integers (row, batch), or None where the networks are told no classes.
        latents: (row, batch, latent), like all that follow in the type of the weights.
        mix: (update, batch).
        augment: (update, 3, batch, number).
    """

    images: Array
    labels: Array | None
    latents: Array
    mix: Array
    augment: Array


class Examples(NamedTuple):
    """Images of one kind and what the discriminator is told about them.

    Attributes:
        images: (batch, height, width, channel), before augmentation.
        labels: (batch,), or None.
        augment: uniform numbers (batch, number) that augment the images.
        condition: what a generator is told of them, where it is told of pictures.
    """

    images: Array
    labels: Array | None
    augment: Array
    condition: Array | None = None


class _Fakes(NamedTuple):
    """Generated examples, and what brings their images' gradient back to the generator's parameters."""

    examples: Examples
    pullback: Callable[[Array], tuple[Any]]


class DiscriminatorScalars(NamedTuple):
    """What a discriminator update reports.

    Attributes:
        loss: mean discriminator loss.
        penalty: weighted mean of the penalties.
        real_logit: mean logit of the reals.
        fake_logit: mean logit of the fakes.
        real_sign: mean sign of the reals' logits.
    """

    loss: Array
    penalty: Array
    real_logit: Array
    fake_logit: Array
    real_sign: Array


def make_step(config: Config) -> Callable[[State, StepInputs, Knobs], tuple[State, dict[str, Array]]]:
    """Build the step of ``config``: (state, inputs, knobs) -> (state, scalars).

    The statistics of batch normalisation and the vectors of spectral normalisation advance once in every forward: in
    the generator once per row of latents; in the discriminator per discriminator update for reals, then fakes, then
    mixtures where a penalty wants them, and in the generator's update for reals where its loss sees them, then fakes.
    """
    updates = config.discriminator_updates

    def step(state: State, inputs: StepInputs, knobs: Knobs) -> tuple[State, dict[str, Array]]:
        finite = jnp.ones((), bool)
        for update in range(updates):
            reals = _reals(config, state, inputs, update)
            state, fakes = _fakes(config, state, inputs, update, reals)
            mixtures = _mixtures(inputs, update, reals, fakes.examples)
            state, reported = update_discriminator(config, state, reals, fakes.examples, mixtures, knobs)
            finite &= jnp.isfinite(reported.loss + reported.penalty)
        if config.real_rows > updates:
            reals = _reals(config, state, inputs, -1)
        if config.fresh_latents:
            state, fakes = _fakes(config, state, inputs, -1, reals)
        fakes = fakes._replace(examples=fakes.examples._replace(augment=inputs.augment[-1, 1]))
        state, generator_loss, price = update_generator(config, state, reals, fakes, knobs)
        finite &= jnp.isfinite(generator_loss + price)
        probability = augment_probability(state, knobs)
        state = adapt_augment(config, update_average(state, knobs), reported.real_sign)
        state = count_step(state, finite)
        return state, {
            "discriminator_loss": reported.loss,
            "generator_loss": generator_loss,
            "reconstruction": price,
            "penalty": reported.penalty,
            "real_logit": reported.real_logit,
            "fake_logit": reported.fake_logit,
            "augment_probability": probability,
            "first_non_finite_step": state.first_non_finite_step,
        }

    return step


def update_discriminator(
    config: Config, state: State, reals: Examples, fakes: Examples, mixtures: Examples, knobs: Knobs
) -> tuple[State, DiscriminatorScalars]:
    """Judge reals, then fakes, then mixtures where they are wanted, and move the discriminator down its loss."""
    loss, penalties = LOSSES[config.loss], [PENALTIES[name] for name in config.penalties]
    points = {"reals": reals, "fakes": fakes, "mixtures": mixtures}
    wanted = {penalty.point for penalty in penalties}

    def total(parameters: Any) -> tuple[Array, tuple[DiscriminatorScalars, Network]]:
        moving, logits, gradients = state._replace(discriminator=_with(state.discriminator, parameters)), {}, {}
        for name in ("reals", "fakes", *sorted(wanted - {"reals", "fakes"})):
            moving, logits[name], gradients[name] = judge(config, moving, points[name], knobs, name in wanted)
        value = loss.discriminator(logits["reals"], logits["fakes"]).mean()
        prices = [penalty.value(gradients[penalty.point]).mean() for penalty in penalties]
        price = knobs.gamma * sum(prices, start=jnp.zeros_like(value))
        real, fake = logits["reals"], logits["fakes"]
        reported = DiscriminatorScalars(value, price, real.mean(), fake.mean(), jnp.sign(real).mean())
        return value + price, (reported, moving.discriminator)

    gradients, (reported, advanced) = jax.grad(total, has_aux=True)(state.discriminator.parameters)
    # The parameters of ``advanced`` are the same numbers, but traced by the gradient.
    state = state._replace(discriminator=_with(advanced, state.discriminator.parameters))
    return _descend(config, state, "discriminator", gradients, knobs), reported


def update_generator(
    config: Config, state: State, reals: Examples, fakes: _Fakes, knobs: Knobs
) -> tuple[State, Array, Array]:
    """Judge fakes, and reals before where the loss sees them, and move the generator down its loss.

    Returns:
        The state, the adversarial loss and the price of what the fakes miss of the pictures they are made from.
    """
    loss, real = LOSSES[config.loss], None
    if loss.paired:
        state, real, _ = judge(config, state, reals, knobs)

    def total(images: Array) -> tuple[Array, tuple[State, Array, Array]]:
        made = fakes.examples._replace(images=images)
        moving, fake, _ = judge(config, state, made, knobs)
        value = loss.generator(real, fake).mean()
        price = reconstruction(config, state, reals, made, value)
        return value + price, (moving, value, price)

    gradient, (state, value, price) = jax.grad(total, has_aux=True)(fakes.examples.images)
    (gradients,) = fakes.pullback(gradient)
    return _descend(config, state, "generator", gradients, knobs), value, price


def reconstruction(config: Config, state: State, reals: Examples, fakes: Examples, like: Array) -> Array:
    """Return the weighted mean squared differences of fakes to the pictures they are made from, 0 where none counts.

    Those of the pixels and of VGG16's features, after Dosovitskiy and Brox (2016), section 2, but means, not sums.

    Args:
        config: the run.
        state: whose VGG16 looks.
        reals: the pictures and what the generator was told of them.
        fakes: what it made of that.
        like: the loss, whose type the result has.
    """
    prices = []
    if config.pixel_weight:
        prices.append(config.pixel_weight * jnp.square(fakes.images - reals.images).mean())
    if config.feature_weight:
        seen = CONDITIONS[config.condition](config, state.vgg, fakes.images)
        prices.append(config.feature_weight * jnp.square(seen - reals.condition).mean())
    return sum(prices, start=jnp.zeros_like(like))


def judge(
    config: Config, state: State, examples: Examples, knobs: Knobs, with_gradient: bool = False
) -> tuple[State, Array, Array]:
    """Return the logits (batch,) of examples and, when asked, the gradient of their sum at the images.

    That is each logit's gradient at its own image, where no batch statistics tie the images together. It is taken
    before augmentation, which lies inside the differentiated path (Huang et al. 2024), and can be differentiated again.
    """
    probability = augment_probability(state, knobs)

    def logits_at(images: Array) -> tuple[Array, Network]:
        augmented = augment(config.augment, images, examples.augment, probability)
        logits, advanced = call(state.discriminator, augmented.astype(compute_dtype(config)), examples.labels)
        check_logits(logits.shape, images.shape)
        return logits.astype(images.dtype), advanced

    if not with_gradient:
        logits, advanced = logits_at(examples.images)
        return state._replace(discriminator=advanced), logits, logits
    logits, pullback, advanced = jax.vjp(logits_at, examples.images, has_aux=True)
    (gradient,) = pullback(jnp.ones_like(logits))
    return state._replace(discriminator=advanced), logits, gradient


def augment_probability(state: State, knobs: Knobs) -> Array:
    """Return the scheduled probability and the adaptive one together."""
    return (state.augment_probability + knobs.augment_probability).clip(0, 1)


def adapt_augment(config: Config, state: State, real_sign: Array) -> State:
    """Steer the adaptive probability: up when the discriminator knows its reals too well (Karras et al. 2020).

    Every fourth step it moves by a fixed length, up where the mean sign of the reals' logits since the last move (those
    of each step's last discriminator update) is above the target, else down.
    """
    nimg = ADAPT_EVERY * config.batch_size
    length = nimg / config.augment_adapt_nimg if config.augment_target else 0.0
    signs = state.augment_signs + real_sign
    due = (state.step + 1) % ADAPT_EVERY == 0
    moved = state.augment_probability + length * jnp.sign(signs / ADAPT_EVERY - config.augment_target)
    return state._replace(
        augment_probability=jnp.where(due, moved.clip(0, 1), state.augment_probability),
        augment_signs=jnp.where(due, jnp.zeros_like(signs), signs),
    )


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


def generate(
    config: Config,
    network: Network,
    latents: Array,
    labels: Array | None,
    condition: Array | None,
    train: bool = True,
) -> tuple[Array, Network]:
    """Make images (batch, height, width, channel), in the type of the latents, in the type that networks compute in."""
    computed = compute_dtype(config)
    told = None if condition is None else condition.astype(computed)
    images, advanced = call(network, latents.astype(computed), labels, told, train)
    return images.astype(latents.dtype), advanced


def pick(held: Array, indices: Array) -> Array:
    """Read uint8 images (row, batch, height, width, channel) from those held on the device.

    Args:
        held: (image, height, width, channel).
        indices: (row, batch), or (row, batch, member) where each member becomes the channels of one image.
    """
    picked = held[indices]
    return picked if indices.ndim == 2 else jnp.concatenate(jnp.unstack(picked, axis=2), -1)


def to_float(config: Config, images: Array, dtype: Any) -> Array:
    """Map uint8 images (batch, height, width, channel) to the generator's range."""
    low = config.lowest_pixel
    return images.astype(dtype) / (255 / (1 - low)) + low


def to_uint8(config: Config, images: Array) -> Array:
    """Map images (batch, height, width, channel) in the generator's range to the nearest uint8, ties to even."""
    low = config.lowest_pixel
    return jnp.rint((images - low) * (255 / (1 - low))).clip(0, 255).astype(jnp.uint8)


def _reals(config: Config, state: State, inputs: StepInputs, row: int) -> Examples:
    """Return the real examples of one row, at the size of this run, and what a generator is told of them."""
    labels = None if inputs.labels is None else inputs.labels[row]
    pictures = to_float(config, inputs.images[row], inputs.latents.dtype)
    condition = CONDITIONS[config.condition](config, state.vgg, pictures)
    return Examples(lowered(pictures, config.resolution), labels, inputs.augment[row, 0], condition)


def _fakes(config: Config, state: State, inputs: StepInputs, row: int, reals: Examples) -> tuple[State, _Fakes]:
    """Make the fake examples of one row, with the reals' labels and conditions; the generator's statistics advance."""

    def forward(parameters: Any) -> tuple[Array, Network]:
        moving = _with(state.generator, parameters)
        return generate(config, moving, inputs.latents[row], reals.labels, reals.condition)

    images, pullback, advanced = jax.vjp(forward, state.generator.parameters, has_aux=True)
    state = state._replace(generator=_with(advanced, state.generator.parameters))
    return state, _Fakes(Examples(images, reals.labels, inputs.augment[row, 1]), pullback)


def _mixtures(inputs: StepInputs, update: int, reals: Examples, fakes: Examples) -> Examples:
    """Mix real and fake images, each pair in a proportion of its own (Gulrajani et al. 2017, algorithm 1)."""
    mix = inputs.mix[update][:, None, None, None]
    return Examples(fakes.images + mix * (reals.images - fakes.images), reals.labels, inputs.augment[update, 2])


def _descend(config: Config, state: State, network: str, gradients: Any, knobs: Knobs) -> State:
    """Move a network against its gradients by its optimiser."""
    before: Network = getattr(state, network)
    if config.freeze == network:
        return state
    note("gradient", network, gradients)
    parameters, moments = optimizers.find(config, network).update(
        before.parameters,
        gradients,
        getattr(state, f"{network}_moments"),
        getattr(knobs, f"{network}_learning_rate"),
        getattr(knobs, f"{network}_beta2_complement"),
    )
    note("update", network, parameters)
    return state._replace(**{network: _with(before, parameters), f"{network}_moments": moments})


def _with(network: Network, parameters: Any) -> Network:
    """Return the network with other parameters."""
    return network.replace(parameters=parameters)
