"""One training step: discriminator updates, generator update, exponential moving average of the generator."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gan_shared.config import Config
from gan_shared.draws import Part
from gan_shared.schedules import ScheduleValues
from gan_shared.step_trace import Observer
from gan_shared.validation import check_logits
from gan_torch.augment import augment
from gan_torch.components import Components, build_components
from gan_torch.examples import Examples, StepInputs, generate, interpolate, real_examples
from gan_torch.losses import PENALTIES
from gan_torch.models import call
from gan_torch.optimizers import Parameters
from gan_torch.reconstruction import reconstruction_loss
from gan_torch.state import State, compute_dtype

# Steps between two moves of the adaptive probability (Karras et al. 2020, arXiv:2006.06676, section 3.2).
ADAPT_EVERY = 4


class DiscriminatorScalars(NamedTuple):
    """What a discriminator update reports.

    Attributes:
        loss: mean discriminator loss.
        penalty: weighted mean of the penalties.
        real_logit: mean logit of the reals.
        fake_logit: mean logit of the fakes.
        real_sign: mean sign of the reals' logits.
    """

    loss: Tensor
    penalty: Tensor
    real_logit: Tensor
    fake_logit: Tensor
    real_sign: Tensor


Step: TypeAlias = Callable[[State, StepInputs, ScheduleValues], tuple[State, dict[str, Tensor]]]


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

    def step(state: State, inputs: StepInputs, schedule_values: ScheduleValues) -> tuple[State, dict[str, Tensor]]:
        # Discriminator: one update for each of its rows; the generator may use the last row's examples again.
        finite = torch.ones((), dtype=torch.bool, device=inputs.images.device)
        for row in range(last):
            state, _, _, scalars = train_discriminator(
                config, components, state, inputs, row, schedule_values, observer=observer
            )
            finite &= torch.isfinite(scalars.loss + scalars.penalty)
        state, real, fake, scalars = train_discriminator(
            config, components, state, inputs, last, schedule_values, observer=observer
        )
        finite &= torch.isfinite(scalars.loss + scalars.penalty)

        # Generator: one update, on examples of its own where its loss needs them.
        state, real, fake = generator_examples(config, state, inputs, real, fake)
        state, generator_loss, reconstruction = update_generator(
            config, components, state, real, fake, schedule_values, observer=observer
        )
        finite &= torch.isfinite(generator_loss + reconstruction)

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
) -> tuple[State, Examples, Examples, DiscriminatorScalars]:
    """Make the examples of one row and update the discriminator on them.

    Returns:
        The state, the reals, the fakes, and what the update reports.
    """
    real = real_examples(config, state, inputs, row)
    # Where the generator's update uses these fakes again, their graph is kept for it.
    used_again = row == config.objective.discriminator_updates - 1 and not config.objective.fresh_latents
    with torch.set_grad_enabled(used_again):
        state, fake = fake_examples(config, state, inputs, row, real)
    detached = fake._replace(images=fake.images.detach())
    examples = {"real": real, "fake": detached, "interpolated": interpolate(inputs, row, real, detached)}
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

    # Logits, and their gradients at the images where a penalty needs them.
    logits, gradients = {}, {}
    for point in ("real", "fake", *sorted(points - {"real", "fake"})):
        if point in points:
            state, logits[point], gradients[point] = discriminate_with_gradient(
                config, state, examples[point], schedule_values
            )
        else:
            state, logits[point] = discriminate(config, state, examples[point], schedule_values)

    # Discriminator loss and penalty.
    loss = components.loss.discriminator(logits["real"], logits["fake"]).mean()
    penalty = weighted_penalty(config, gradients, schedule_values, loss)
    state = _descend(config, components, state, "discriminator", loss + penalty, schedule_values, observer=observer)

    real_logits, fake_logits = logits["real"].detach(), logits["fake"].detach()
    return state, DiscriminatorScalars(
        loss=loss.detach(),
        penalty=penalty.detach(),
        real_logit=real_logits.mean(),
        fake_logit=fake_logits.mean(),
        real_sign=real_logits.sign().mean(),
    )


def generator_examples(
    config: Config, state: State, inputs: StepInputs, real: Examples, fake: Examples
) -> tuple[State, Examples, Examples]:
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
    return state, real, fake._replace(augment=augment)


def update_generator(
    config: Config,
    components: Components,
    state: State,
    real: Examples,
    fake: Examples,
    schedule_values: ScheduleValues,
    *,
    observer: Observer[Parameters] | None = None,
) -> tuple[State, Tensor, Tensor]:
    """Move the generator down its loss on fakes plus the reconstruction loss.

    The discriminator is applied to reals before where the loss pairs them with fakes.

    Returns:
        The state, the generator loss and the weighted reconstruction loss.
    """
    adversarial, real_logits = components.loss, None
    if adversarial.paired:
        with torch.no_grad():
            state, real_logits = discriminate(config, state, real, schedule_values)

    # Generator loss and reconstruction loss.
    state, fake_logits = discriminate(config, state, fake, schedule_values)
    loss = adversarial.generator(real_logits, fake_logits).mean()
    reconstruction = reconstruction_loss(config, state, real, fake, loss)
    state = _descend(config, components, state, "generator", loss + reconstruction, schedule_values, observer=observer)
    return state, loss.detach(), reconstruction.detach()


def fake_examples(config: Config, state: State, inputs: StepInputs, row: int, real: Examples) -> tuple[State, Examples]:
    """Make the fake examples of one row, with the labels and the image condition of the reals.

    Returns:
        The state, whose generator has advanced statistics, and the fakes.
    """
    generator = state.generator
    images, generator = generate(config, generator, inputs.latents[row], real.labels, real.image_condition)
    fake = Examples(images, real.labels, inputs.augment[row, Part.FAKE])
    return state._replace(generator=generator), fake


def weighted_penalty(
    config: Config, gradients: Mapping[str, Tensor], schedule_values: ScheduleValues, like: Tensor
) -> Tensor:
    """Return gamma times the sum of the penalties, each the mean over images; 0 where there are none.

    Args:
        config: the run.
        gradients: of the logits at the images (batch, height, width, channel), by the penalties' points.
        schedule_values: of this step.
        like: the loss, whose type the result has.
    """
    penalties = [PENALTIES[name] for name in config.objective.penalties]
    means = [penalty.value(gradients[penalty.point]).mean() for penalty in penalties]
    return schedule_values.gamma * sum(means, start=torch.zeros_like(like))


def discriminate(
    config: Config, state: State, examples: Examples, schedule_values: ScheduleValues
) -> tuple[State, Tensor]:
    """Apply the discriminator to augmented examples.

    Returns:
        The state, whose discriminator has advanced statistics, and the logits (batch, ...), one or more per image.

    Raises:
        UserError: the logits have no axis of images.
    """
    images, labels, uniforms, _ = examples
    augmented = augment(config.augmentation.augment, images, uniforms, augment_probability(state, schedule_values))
    logits, advanced = call(state.discriminator, augmented.to(compute_dtype(config)), labels)
    check_logits(logits.shape, images.shape)
    return state._replace(discriminator=advanced), logits.to(images.dtype)


def discriminate_with_gradient(
    config: Config, state: State, examples: Examples, schedule_values: ScheduleValues
) -> tuple[State, Tensor, Tensor]:
    """Apply the discriminator to augmented examples and differentiate at the images.

    The gradient is that of each image's mean logit at the image, where no batch statistics tie the images together
    (with those, that of the sum of all mean logits). It is taken before augmentation, which lies inside the
    differentiated path (Huang et al. 2024), and can be differentiated again.

    Returns:
        The state, the logits (batch, ...) and the gradient (batch, height, width, channel).

    Raises:
        UserError: the logits have no axis of images.
    """
    images = examples.images.detach().requires_grad_()
    state, logits = discriminate(config, state, examples._replace(images=images), schedule_values)
    means = logits if logits.ndim == 1 else logits.flatten(1).mean(1)
    (gradient,) = torch.autograd.grad(means.sum(), images, create_graph=True, materialize_grads=True)
    return state, logits, gradient


def augment_probability(state: State, schedule_values: ScheduleValues) -> Tensor:
    """Return the scheduled probability and the adaptive one together."""
    return (state.augment_probability + schedule_values.augment_probability).clamp(0, 1)


def adapt_augment(config: Config, state: State, real_sign: Tensor) -> State:
    """Steer the adaptive probability: up when the discriminator overfits its reals (Karras et al. 2020, section 3.2).

    Every fourth step it moves by a fixed length, up where the mean sign of the reals' logits since the last move (those
    of each step's last discriminator update) is above the target, else down.
    """
    nimg = ADAPT_EVERY * config.training.batch_size
    length = nimg / config.augmentation.augment_adapt_nimg if config.augmentation.augment_target else 0.0
    signs = state.augment_signs + real_sign
    due = (state.step + 1) % ADAPT_EVERY == 0
    moved = state.augment_probability + length * (signs / ADAPT_EVERY - config.augmentation.augment_target).sign()
    return state._replace(
        augment_probability=torch.where(due, moved.clamp(0, 1), state.augment_probability),
        augment_signs=torch.where(due, torch.zeros_like(signs), signs),
    )


@torch.no_grad()
def update_average(state: State, schedule_values: ScheduleValues) -> State:
    """Move the averaged generator towards the generator by the weight ``ema_complement``: its EMA.

    Parameters and floating buffers are averaged, average + weight * (current - average); integers are copied.
    """
    averages = state.generator_ema.state_dict()
    # Named like this a tensor that two layers share comes once.
    for name, current in (*state.generator.named_parameters(), *state.generator.named_buffers()):
        if name not in averages:
            continue  # a buffer that is no part of the state
        if current.is_floating_point():
            averages[name].lerp_(current, schedule_values.ema_complement)
        else:
            averages[name].copy_(current)
    return state


def count_step(state: State, finite: Tensor) -> State:
    """Count the step, and keep its number where it is the first whose losses were not ``finite``."""
    step = state.step + 1
    first = state.first_non_finite_step
    first = torch.where((first == 0) & ~finite, step, first)
    return state._replace(step=step, first_non_finite_step=first)


def _descend(
    config: Config,
    components: Components,
    state: State,
    network: str,
    loss: Tensor,
    schedule_values: ScheduleValues,
    *,
    observer: Observer[Parameters] | None,
) -> State:
    """Move a network down ``loss`` by its optimiser."""
    named = getattr(state, network).named_parameters()
    parameters: Parameters = {name: parameter for name, parameter in named if parameter.requires_grad}
    if config.objective.freeze == network or not parameters:
        return state  # gradients that are not used are not computed
    found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    gradients = dict(zip(parameters, found, strict=True))
    if observer is not None:
        observer("gradient", network, gradients)
    parameters, optimizer_state = components.optimizer(network).update(
        parameters,
        gradients,
        getattr(state, f"{network}_optimizer_state"),
        getattr(schedule_values, f"{network}_learning_rate"),
        getattr(schedule_values, f"{network}_square_decay_complement"),
    )
    if observer is not None:
        observer("update", network, parameters)
    return state._replace(**{f"{network}_optimizer_state": optimizer_state})
