"""The game: discriminator updates, generator update, average of the generator."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from gan_shared.config import Config
from gan_shared.schedules import Knobs
from gan_torch.losses import LOSSES
from gan_torch.optimizers import Adam
from gan_torch.state import State


class DiscriminatorScalars(NamedTuple):
    """What a discriminator update reports.

    Attributes:
        loss: mean discriminator loss.
        real_logit: mean logit of the reals.
        fake_logit: mean logit of the fakes.
    """

    loss: Tensor
    real_logit: Tensor
    fake_logit: Tensor


def make_step(config: Config) -> Callable[..., tuple[State, dict[str, Tensor]]]:
    """Build the step of ``config``: (state, images, latents, knobs) -> (state, scalars).

    images: uint8 (update, batch, height, width, channel); latents: (update, batch, latent) in the computing type,
    one row more than there are discriminator updates where the generator's latents are fresh. The statistics
    of batch normalisation advance once in every forward: in the generator once per row of latents, in the
    discriminator twice per discriminator update (reals, then fakes) and once in the generator's update.
    """
    updates = config.discriminator_updates

    def step(state: State, images: Tensor, latents: Tensor, knobs: Knobs) -> tuple[State, dict[str, Tensor]]:
        finite = torch.ones((), dtype=torch.bool, device=images.device)
        for update in range(updates):
            # Where the generator's update reuses the last fakes, their graph is kept for it.
            with torch.set_grad_enabled(update == updates - 1 and not config.fresh_latents):
                fakes = state.generator(latents[update])
            reals = to_float(images[update], latents.dtype)
            state, reported = update_discriminator(config, state, reals, fakes.detach(), knobs)
            finite &= reported.loss.isfinite()
        if config.fresh_latents:
            fakes = state.generator(latents[-1])
        state, generator_loss = update_generator(config, state, fakes, knobs)
        finite &= generator_loss.isfinite()
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
    config: Config, state: State, reals: Tensor, fakes: Tensor, knobs: Knobs
) -> tuple[State, DiscriminatorScalars]:
    """Judge reals, then fakes, and move the discriminator down its loss."""
    real_logits = state.discriminator(reals)
    fake_logits = state.discriminator(fakes)
    loss = LOSSES[config.loss].discriminator(real_logits, fake_logits).mean()
    parameters = dict(state.discriminator.named_parameters())
    _, moments = Adam(config.beta1).update(
        parameters,
        _gradients(loss, parameters),
        state.discriminator_moments,
        knobs.discriminator_learning_rate,
        knobs.beta2_complement,
    )
    reported = DiscriminatorScalars(loss.detach(), real_logits.detach().mean(), fake_logits.detach().mean())
    return state._replace(discriminator_moments=moments), reported


def update_generator(config: Config, state: State, fakes: Tensor, knobs: Knobs) -> tuple[State, Tensor]:
    """Judge fakes and move the generator down its loss."""
    loss = LOSSES[config.loss].generator(state.discriminator(fakes)).mean()
    parameters = dict(state.generator.named_parameters())
    _, moments = Adam(config.beta1).update(
        parameters,
        _gradients(loss, parameters),
        state.generator_moments,
        knobs.generator_learning_rate,
        knobs.beta2_complement,
    )
    return state._replace(generator_moments=moments), loss.detach()


@torch.no_grad()
def update_average(state: State, knobs: Knobs) -> State:
    """Move the averaged generator towards the generator by the weight ``ema_complement``; integers are copied."""
    averages = state.generator_ema.state_dict()
    for name, current in state.generator.state_dict().items():
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


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Map uint8 images (batch, height, width, channel) to [-1, 1]."""
    return images.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map images (batch, height, width, channel) in [-1, 1] to the nearest uint8, ties to even."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Differentiate ``loss`` with respect to named parameters, and nothing else."""
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return dict(zip(parameters, gradients, strict=True))
