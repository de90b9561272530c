"""One training step: discriminator updates, generator update, exponential moving average of the generator."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.augment import augment
from gan_jax.components import Components, build_components
from gan_jax.examples import Examples, StepInputs, generate, interpolate, real_examples
from gan_jax.losses import PENALTIES
from gan_jax.models import call
from gan_jax.network import Network
from gan_jax.optimizers import Parameters
from gan_jax.reconstruction import reconstruction_loss
from gan_jax.state import State, compute_dtype
from gan_shared.config import Config
from gan_shared.draws import Part
from gan_shared.schedules import ScheduleValues
from gan_shared.step_trace import Observer
from gan_shared.validation import check_logits

# Steps between two moves of the adaptive probability (Karras et al. 2020, arXiv:2006.06676, section 3.2).
ADAPT_EVERY = 4


class _Fakes(NamedTuple):
    """Generated examples, and what brings their images' gradient back to the generator's parameters."""

    examples: Examples
    pullback: Callable[[Array], tuple[Parameters]]


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


Step: TypeAlias = Callable[[State, StepInputs, ScheduleValues], tuple[State, dict[str, Array]]]


def make_step(
    config: Config, components: Components | None = None, observer: Observer[Parameters] | None = None
) -> Step:
    """Build the step of ``config``: (state, inputs, schedule values) -> (state, scalars).

    The statistics of batch normalisation and the vectors of spectral normalisation advance once in every forward: in
    the generator once per row of latents; in the discriminator per discriminator update for reals, then fakes, then
    interpolates where a penalty is taken there, and in the generator's update for reals where its loss pairs them with
    fakes, then fakes.

    Args:
        config: the run.
        components: its loss and optimisers; those that ``config`` names when not given.
        observer: called with each network's gradients and updated parameters; for steps that are not compiled.
    """
    components = components or build_components(config)
    last = config.objective.discriminator_updates - 1

    def step(state: State, inputs: StepInputs, schedule_values: ScheduleValues) -> tuple[State, dict[str, Array]]:
        # Discriminator: one update for each of its rows; the generator may use the last row's examples again.
        finite = jnp.ones((), bool)
        for row in range(last):
            state, _, _, scalars = train_discriminator(
                config, components, state, inputs, row, schedule_values, observer=observer
            )
            finite &= jnp.isfinite(scalars.loss + scalars.penalty)
        state, real, fake, scalars = train_discriminator(
            config, components, state, inputs, last, schedule_values, observer=observer
        )
        finite &= jnp.isfinite(scalars.loss + scalars.penalty)

        # Generator: one update, on examples of its own where its loss needs them.
        state, real, fake = generator_examples(config, state, inputs, real, fake)
        state, generator_loss, reconstruction = update_generator(
            config, components, state, real, fake, schedule_values, observer=observer
        )
        finite &= jnp.isfinite(generator_loss + reconstruction)

        # Averages and counters.
        probability = augment_probability(state, schedule_values)
        state = adapt_augment(config, update_average(state, schedule_values), scalars.real_sign)
        state = count_step(state, finite)
        return state, {
            "discriminator_loss": scalars.loss,
            "generator_loss": generator_loss,
            "reconstruction_loss": reconstruction,
            "penalty": scalars.penalty,
            "real_logit": scalars.real_logit,
            "fake_logit": scalars.fake_logit,
            "augment_probability": probability,
            "first_non_finite_step": state.first_non_finite_step,
        }

    return step


def train_discriminator(
    config: Config,
    components: Components,
    state: State,
    inputs: StepInputs,
    row: int,
    schedule_values: ScheduleValues,
    *,
    observer: Observer[Parameters] | None = None,
) -> tuple[State, Examples, _Fakes, DiscriminatorScalars]:
    """Make the examples of one row and update the discriminator on them.

    Returns:
        The state, the reals, the fakes, and what the update reports.
    """
    real = real_examples(config, state, inputs, row)
    state, fake = fake_examples(config, state, inputs, row, real)
    examples = {"real": real, "fake": fake.examples, "interpolated": interpolate(inputs, row, real, fake.examples)}
    state, scalars = update_discriminator(config, components, state, examples, schedule_values, observer=observer)
    return state, real, fake, scalars


def update_discriminator(
    config: Config,
    components: Components,
    state: State,
    examples: Mapping[str, Examples],
    schedule_values: ScheduleValues,
    *,
    observer: Observer[Parameters] | None = None,
) -> tuple[State, DiscriminatorScalars]:
    """Move the discriminator down its loss on reals and fakes plus the penalties.

    The discriminator is applied to reals, then fakes, then interpolates where a penalty is taken there; ``examples``
    are those by the names real, fake and interpolated. All means are over every logit, of which an image may have
    several.
    """
    points = {PENALTIES[name].point for name in config.objective.penalties}

    def objective(parameters: Parameters) -> tuple[Array, tuple[DiscriminatorScalars, Network]]:
        # Logits, and their gradients at the images where a penalty needs them.
        moving = state._replace(discriminator=_with(state.discriminator, parameters))
        logits, gradients = {}, {}
        for point in ("real", "fake", *sorted(points - {"real", "fake"})):
            if point in points:
                moving, logits[point], gradients[point] = discriminate_with_gradient(
                    config, moving, examples[point], schedule_values
                )
            else:
                moving, logits[point] = discriminate(config, moving, examples[point], schedule_values)

        # Discriminator loss and penalty.
        loss = components.loss.discriminator(logits["real"], logits["fake"]).mean()
        penalty = weighted_penalty(config, gradients, schedule_values, loss)
        scalars = DiscriminatorScalars(
            loss=loss,
            penalty=penalty,
            real_logit=logits["real"].mean(),
            fake_logit=logits["fake"].mean(),
            real_sign=jnp.sign(logits["real"]).mean(),
        )
        return loss + penalty, (scalars, moving.discriminator)

    gradients, (scalars, advanced) = jax.grad(objective, has_aux=True)(state.discriminator.parameters)
    # The parameters of ``advanced`` are the same numbers, but traced by the gradient.
    state = state._replace(discriminator=_with(advanced, state.discriminator.parameters))
    return _descend(config, components, state, "discriminator", gradients, schedule_values, observer=observer), scalars


def generator_examples(
    config: Config, state: State, inputs: StepInputs, real: Examples, fake: _Fakes
) -> tuple[State, Examples, _Fakes]:
    """Return the examples of the generator's update, augmented anew.

    Args:
        config: the run.
        state: whose generator makes fresh fakes.
        inputs: whose last row is the generator's: of reals where its loss pairs them with fakes, of latents where
            those are fresh.
        real: reals of the last discriminator update, used again where there is no such row.
        fake: fakes of the last discriminator update, likewise.

    Returns:
        The state, the reals and the fakes.
    """
    row = config.objective.discriminator_updates
    if config.real_rows > row:
        real = real_examples(config, state, inputs, row)
    if config.objective.fresh_latents:
        state, fake = fake_examples(config, state, inputs, row, real)
    augment = inputs.augment[row, Part.FAKE]
    return state, real, fake._replace(examples=fake.examples._replace(augment=augment))


def update_generator(
    config: Config,
    components: Components,
    state: State,
    real: Examples,
    fake: _Fakes,
    schedule_values: ScheduleValues,
    *,
    observer: Observer[Parameters] | None = None,
) -> tuple[State, Array, Array]:
    """Move the generator down its loss on fakes plus the reconstruction loss.

    The discriminator is applied to reals before where the loss pairs them with fakes.

    Returns:
        The state, the generator loss and the weighted reconstruction loss.
    """
    adversarial, real_logits = components.loss, None
    if adversarial.paired:
        state, real_logits = discriminate(config, state, real, schedule_values)

    def objective(images: Array) -> tuple[Array, tuple[State, Array, Array]]:
        # Generator loss and reconstruction loss.
        made = fake.examples._replace(images=images)
        moving, fake_logits = discriminate(config, state, made, schedule_values)
        loss = adversarial.generator(real_logits, fake_logits).mean()
        reconstruction = reconstruction_loss(config, state, real, made, loss)
        return loss + reconstruction, (moving, loss, reconstruction)

    gradient, (state, loss, reconstruction) = jax.grad(objective, has_aux=True)(fake.examples.images)
    (gradients,) = fake.pullback(gradient)
    state = _descend(config, components, state, "generator", gradients, schedule_values, observer=observer)
    return state, loss, reconstruction


def fake_examples(config: Config, state: State, inputs: StepInputs, row: int, real: Examples) -> tuple[State, _Fakes]:
    """Make the fake examples of one row, with the labels and the image condition of the reals.

    Returns:
        The state, whose generator has advanced statistics, and the fakes.
    """

    def forward(parameters: Parameters) -> tuple[Array, Network]:
        moving = _with(state.generator, parameters)
        return generate(config, moving, inputs.latents[row], real.labels, real.image_condition)

    images, pullback, advanced = jax.vjp(forward, state.generator.parameters, has_aux=True)
    fake = Examples(images, real.labels, inputs.augment[row, Part.FAKE])
    state = state._replace(generator=_with(advanced, state.generator.parameters))
    return state, _Fakes(fake, pullback)


def weighted_penalty(
    config: Config, gradients: Mapping[str, Array], schedule_values: ScheduleValues, like: Array
) -> Array:
    """Return gamma times the sum of the penalties, each the mean over images; 0 where there are none.

    Args:
        config: the run.
        gradients: of the logits at the images (batch, height, width, channel), by the penalties' points.
        schedule_values: of this step.
        like: the loss, whose type the result has.
    """
    penalties = [PENALTIES[name] for name in config.objective.penalties]
    means = [penalty.value(gradients[penalty.point]).mean() for penalty in penalties]
    return schedule_values.gamma * sum(means, start=jnp.zeros_like(like))


def discriminate(
    config: Config, state: State, examples: Examples, schedule_values: ScheduleValues
) -> tuple[State, Array]:
    """Apply the discriminator to augmented examples.

    Returns:
        The state, whose discriminator has advanced statistics, and the logits (batch, ...), one or more per image.

    Raises:
        UserError: the logits have no axis of images.
    """
    logits, advanced = _logits_at(config, state, examples, schedule_values)(examples.images)
    return state._replace(discriminator=advanced), logits


def discriminate_with_gradient(
    config: Config, state: State, examples: Examples, schedule_values: ScheduleValues
) -> tuple[State, Array, Array]:
    """Apply the discriminator to augmented examples and differentiate at the images.

    The gradient is that of each image's mean logit at the image, where no batch statistics tie the images together
    (with those, that of the sum of all mean logits). It is taken before augmentation, which lies inside the
    differentiated path (Huang et al. 2024), and can be differentiated again.

    Returns:
        The state, the logits (batch, ...) and the gradient (batch, height, width, channel).

    Raises:
        UserError: the logits have no axis of images.
    """
    logits_at = _logits_at(config, state, examples, schedule_values)
    logits, pullback, advanced = jax.vjp(logits_at, examples.images, has_aux=True)
    (gradient,) = pullback(jnp.full_like(logits, len(logits) / logits.size))
    return state._replace(discriminator=advanced), logits, gradient


def augment_probability(state: State, schedule_values: ScheduleValues) -> Array:
    """Return the scheduled probability and the adaptive one together."""
    return (state.augment_probability + schedule_values.augment_probability).clip(0, 1)


def adapt_augment(config: Config, state: State, real_sign: Array) -> State:
    """Steer the adaptive probability: up when the discriminator overfits its reals (Karras et al. 2020, section 3.2).

    Every fourth step it moves by a fixed length, up where the mean sign of the reals' logits since the last move (those
    of each step's last discriminator update) is above the target, else down.
    """
    nimg = ADAPT_EVERY * config.training.batch_size
    length = nimg / config.augmentation.augment_adapt_nimg if config.augmentation.augment_target else 0.0
    signs = state.augment_signs + real_sign
    due = (state.step + 1) % ADAPT_EVERY == 0
    moved = state.augment_probability + length * jnp.sign(signs / ADAPT_EVERY - config.augmentation.augment_target)
    return state._replace(
        augment_probability=jnp.where(due, moved.clip(0, 1), state.augment_probability),
        augment_signs=jnp.where(due, jnp.zeros_like(signs), signs),
    )


def update_average(state: State, schedule_values: ScheduleValues) -> State:
    """Move the averaged generator towards the generator by the weight ``ema_complement``: its EMA.

    Parameters and floating buffers are averaged, average + weight * (current - average); integers are copied.
    """
    weight = schedule_values.ema_complement

    def move(average: Array, current: Array) -> Array:
        if not jnp.issubdtype(current.dtype, jnp.floating):
            return current
        way = current - average
        # torch.lerp's two forms: each is exact at its own end.
        return jnp.where(weight < 0.5, average + weight * way, current - (1 - weight) * way)

    return state._replace(generator_ema=jax.tree.map(move, state.generator_ema, state.generator))


def count_step(state: State, finite: Array) -> State:
    """Count the step, and keep its number where it is the first whose losses were not ``finite``."""
    step = state.step + 1
    first = state.first_non_finite_step
    first = jnp.where((first == 0) & ~finite, step, first)
    return state._replace(step=step, first_non_finite_step=first)


def _logits_at(
    config: Config, state: State, examples: Examples, schedule_values: ScheduleValues
) -> Callable[[Array], tuple[Array, Network]]:
    """Return a function from images, in the place of the examples', to logits and the advanced discriminator."""
    probability = augment_probability(state, schedule_values)

    def logits_at(images: Array) -> tuple[Array, Network]:
        augmented = augment(config.augmentation.augment, images, examples.augment, probability)
        logits, advanced = call(state.discriminator, augmented.astype(compute_dtype(config)), examples.labels)
        check_logits(logits.shape, images.shape)
        return logits.astype(images.dtype), advanced

    return logits_at


def _descend(
    config: Config,
    components: Components,
    state: State,
    network: str,
    gradients: Parameters,
    schedule_values: ScheduleValues,
    *,
    observer: Observer[Parameters] | None,
) -> State:
    """Move a network against its gradients by its optimiser."""
    before: Network = getattr(state, network)
    if config.objective.freeze == network:
        return state
    if observer is not None:
        observer("gradient", network, gradients)
    parameters, optimizer_state = components.optimizer(network).update(
        before.parameters,
        gradients,
        getattr(state, f"{network}_optimizer_state"),
        getattr(schedule_values, f"{network}_learning_rate"),
        getattr(schedule_values, f"{network}_square_decay_complement"),
    )
    if observer is not None:
        observer("update", network, parameters)
    return state._replace(**{network: _with(before, parameters), f"{network}_optimizer_state": optimizer_state})


def _with(network: Network, parameters: Parameters) -> Network:
    """Return the network with other parameters."""
    return network.replace(parameters=parameters)
