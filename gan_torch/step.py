"""The game: discriminator updates, generator update, average of the generator."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_shared.config import Config
from gan_shared.schedules import Knobs
from gan_shared.trace import note
from gan_shared.validation import check_logits
from gan_torch import optimizers
from gan_torch.augment import augment
from gan_torch.conditions import CONDITIONS, lowered
from gan_torch.losses import LOSSES, PENALTIES
from gan_torch.models import call
from gan_torch.state import State, compute_dtype

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

    images: Tensor
    labels: Tensor | None
    latents: Tensor
    mix: Tensor
    augment: Tensor


class Examples(NamedTuple):
    """Images of one kind and what the discriminator is told about them.

    Attributes:
        images: (batch, height, width, channel), before augmentation.
        labels: (batch,), or None.
        augment: uniform numbers (batch, number) that augment the images.
        condition: what a generator is told of them, where it is told of pictures.
    """

    images: Tensor
    labels: Tensor | None
    augment: Tensor
    condition: Tensor | None = None


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


def make_step(config: Config) -> Callable[[State, StepInputs, Knobs], tuple[State, dict[str, Tensor]]]:
    """Build the step of ``config``: (state, inputs, knobs) -> (state, scalars).

    The statistics of batch normalisation and the vectors of spectral normalisation advance once in every forward: in
    the generator once per row of latents; in the discriminator per discriminator update for reals, then fakes, then
    mixtures where a penalty wants them, and in the generator's update for reals where its loss sees them, then fakes.
    """
    updates = config.discriminator_updates

    def step(state: State, inputs: StepInputs, knobs: Knobs) -> tuple[State, dict[str, Tensor]]:
        finite = torch.ones((), dtype=torch.bool, device=inputs.images.device)
        for update in range(updates):
            reals = _reals(config, state, inputs, update)
            # Where the generator's update reuses the last fakes, their graph is kept for it.
            with torch.set_grad_enabled(update == updates - 1 and not config.fresh_latents):
                fakes = _fakes(config, state, inputs, update, reals)
            settled = fakes._replace(images=fakes.images.detach())
            mixtures = _mixtures(inputs, update, reals, settled)
            state, reported = update_discriminator(config, state, reals, settled, mixtures, knobs)
            finite &= (reported.loss + reported.penalty).isfinite()
        if config.real_rows > updates:
            reals = _reals(config, state, inputs, -1)
        if config.fresh_latents:
            fakes = _fakes(config, state, inputs, -1, reals)
        fakes = fakes._replace(augment=inputs.augment[-1, 1])
        state, generator_loss, price = update_generator(config, state, reals, fakes, knobs)
        finite &= (generator_loss + price).isfinite()
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
    logits, gradients = {}, {}
    for name in ("reals", "fakes", *sorted(wanted - {"reals", "fakes"})):
        logits[name], gradients[name] = judge(config, state, points[name], knobs, with_gradient=name in wanted)
    value = loss.discriminator(logits["reals"], logits["fakes"]).mean()
    prices = [penalty.value(gradients[penalty.point]).mean() for penalty in penalties]
    price = knobs.gamma * sum(prices, start=torch.zeros_like(value))
    state = _descend(config, state, "discriminator", value + price, knobs)
    real, fake = logits["reals"].detach(), logits["fakes"].detach()
    return state, DiscriminatorScalars(value.detach(), price.detach(), real.mean(), fake.mean(), real.sign().mean())


def update_generator(
    config: Config, state: State, reals: Examples, fakes: Examples, knobs: Knobs
) -> tuple[State, Tensor, Tensor]:
    """Judge fakes, and reals before where the loss sees them, and move the generator down its loss.

    Returns:
        The state, the adversarial loss and the price of what the fakes miss of the pictures they are made from.
    """
    loss, real = LOSSES[config.loss], None
    if loss.paired:
        with torch.no_grad():
            real, _ = judge(config, state, reals, knobs)
    fake, _ = judge(config, state, fakes, knobs)
    value = loss.generator(real, fake).mean()
    price = reconstruction(config, state, reals, fakes, value)
    return _descend(config, state, "generator", value + price, knobs), value.detach(), price.detach()


def reconstruction(config: Config, state: State, reals: Examples, fakes: Examples, like: Tensor) -> Tensor:
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
        prices.append(config.pixel_weight * (fakes.images - reals.images).square().mean())
    if config.feature_weight:
        seen = CONDITIONS[config.condition](config, state.vgg, fakes.images)
        prices.append(config.feature_weight * (seen - reals.condition).square().mean())
    return sum(prices, start=torch.zeros_like(like))


def judge(
    config: Config, state: State, examples: Examples, knobs: Knobs, with_gradient: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the logits (batch,) of examples and, when asked, the gradient of their sum at the images.

    That is each logit's gradient at its own image, where no batch statistics tie the images together. It is taken
    before augmentation, which lies inside the differentiated path (Huang et al. 2024), and can be differentiated again.
    """
    images, labels, uniforms, _ = examples
    if with_gradient:
        images = images.detach().requires_grad_()
    augmented = augment(config.augment, images, uniforms, augment_probability(state, knobs))
    logits = call(state.discriminator, augmented.to(compute_dtype(config)), labels).to(images.dtype)
    check_logits(logits.shape, images.shape)
    if not with_gradient:
        return logits, logits
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True, materialize_grads=True)
    return logits, gradient


def augment_probability(state: State, knobs: Knobs) -> Tensor:
    """Return the scheduled probability and the adaptive one together."""
    return (state.augment_probability + knobs.augment_probability).clamp(0, 1)


def adapt_augment(config: Config, state: State, real_sign: Tensor) -> State:
    """Steer the adaptive probability: up when the discriminator knows its reals too well (Karras et al. 2020).

    Every fourth step it moves by a fixed length, up where the mean sign of the reals' logits since the last move (those
    of each step's last discriminator update) is above the target, else down.
    """
    nimg = ADAPT_EVERY * config.batch_size
    length = nimg / config.augment_adapt_nimg if config.augment_target else 0.0
    signs = state.augment_signs + real_sign
    due = (state.step + 1) % ADAPT_EVERY == 0
    moved = state.augment_probability + length * (signs / ADAPT_EVERY - config.augment_target).sign()
    return state._replace(
        augment_probability=torch.where(due, moved.clamp(0, 1), state.augment_probability),
        augment_signs=torch.where(due, torch.zeros_like(signs), signs),
    )


@torch.no_grad()
def update_average(state: State, knobs: Knobs) -> State:
    """Move the averaged generator towards the generator by the weight ``ema_complement``; integers are copied."""
    averages = state.generator_ema.state_dict()
    # Named like this a tensor that two layers share comes once.
    for name, current in (*state.generator.named_parameters(), *state.generator.named_buffers()):
        if name not in averages:
            continue  # a buffer that is no part of the state
        if current.is_floating_point():
            averages[name].lerp_(current, knobs.ema_complement)
        else:
            averages[name].copy_(current)
    return state


def count_step(state: State, finite: Tensor) -> State:
    """Advance the step and remember the first one whose losses were not ``finite``."""
    step = state.step + 1
    first = state.first_non_finite_step
    first = torch.where((first == 0) & ~finite, step, first)
    return state._replace(step=step, first_non_finite_step=first)


def generate(
    config: Config, network: nn.Module, latents: Tensor, labels: Tensor | None, condition: Tensor | None
) -> Tensor:
    """Make images (batch, height, width, channel), in the type of the latents, in the type that networks compute in."""
    computed = compute_dtype(config)
    told = None if condition is None else condition.to(computed)
    return call(network, latents.to(computed), labels, told).to(latents.dtype)


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


def _reals(config: Config, state: State, inputs: StepInputs, row: int) -> Examples:
    """Return the real examples of one row, at the size of this run, and what a generator is told of them."""
    labels = None if inputs.labels is None else inputs.labels[row]
    pictures = to_float(config, inputs.images[row], inputs.latents.dtype)
    condition = CONDITIONS[config.condition](config, state.vgg, pictures)
    return Examples(lowered(pictures, config.resolution), labels, inputs.augment[row, 0], condition)


def _fakes(config: Config, state: State, inputs: StepInputs, row: int, reals: Examples) -> Examples:
    """Make the fake examples of one row, with the reals' labels and conditions; the generator's statistics advance."""
    images = generate(config, state.generator, inputs.latents[row], reals.labels, reals.condition)
    return Examples(images, reals.labels, inputs.augment[row, 1])


def _mixtures(inputs: StepInputs, update: int, reals: Examples, fakes: Examples) -> Examples:
    """Mix real and fake images, each pair in a proportion of its own (Gulrajani et al. 2017, algorithm 1)."""
    mix = inputs.mix[update][:, None, None, None]
    return Examples(fakes.images + mix * (reals.images - fakes.images), reals.labels, inputs.augment[update, 2])


def _descend(config: Config, state: State, network: str, loss: Tensor, knobs: Knobs) -> State:
    """Move a network down ``loss`` by its optimiser."""
    named = getattr(state, network).named_parameters()
    parameters: Mapping[str, Tensor] = {name: parameter for name, parameter in named if parameter.requires_grad}
    if config.freeze == network or not parameters:
        return state  # gradients that nobody uses are not computed
    found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    gradients = dict(zip(parameters, found, strict=True))
    note("gradient", network, gradients)
    _, moments = optimizers.find(config, network).update(
        parameters,
        gradients,
        getattr(state, f"{network}_moments"),
        getattr(knobs, f"{network}_learning_rate"),
        getattr(knobs, f"{network}_beta2_complement"),
    )
    note("update", network, parameters)
    return state._replace(**{f"{network}_moments": moments})
