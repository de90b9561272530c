"""The game: discriminator updates, generator update, average of the generator."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gan_shared.config import Config
from gan_shared.schedules import Knobs
from gan_torch.losses import LOSSES
from gan_torch.optimizers import Adam
from gan_torch.state import State


class Judgement(NamedTuple):
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
    loss, adam = LOSSES[config.loss], Adam(config.beta1)

    def step(
        state: State, images: Tensor, latents: Tensor, knobs: Knobs
    ) -> tuple[State, dict[str, Tensor]]:
        finite = torch.ones((), dtype=torch.bool, device=images.device)
        for update in range(config.discriminator_updates):
            last = update == config.discriminator_updates - 1
            # Where the generator's update reuses the last fakes, their graph is kept for it.
            with torch.set_grad_enabled(last and not config.fresh_latents):
                fakes = state.generator(latents[update])
            state, judged = update_discriminator(state, to_float(images[update], latents.dtype), fakes.detach(), knobs)
            finite &= judged.loss.isfinite()
        if config.fresh_latents:
            fakes = state.generator(latents[-1])
        state, generator_loss = update_generator(state, fakes, knobs)
        finite &= generator_loss.isfinite()
        state = update_average(state, knobs)
        state = count_step(state, finite)
        return state, {
            "discriminator_loss": judged.loss,
            "generator_loss": generator_loss,
            "real_logit": judged.real_logit,
            "fake_logit": judged.fake_logit,
            "first_non_finite_step": state.first_non_finite_step,
        }

    def update_discriminator(
        state: State, reals: Tensor, fakes: Tensor, knobs: Knobs
    ) -> tuple[State, Judgement]:
        """Judge reals, then fakes, and move the discriminator down its loss."""
        parameters = dict(state.discriminator.named_parameters())
        real_logits = state.discriminator(reals)
        fake_logits = state.discriminator(fakes)
        mean_loss = loss.discriminator(real_logits, fake_logits).mean()
        gradients = _gradients(mean_loss, parameters)
        _, moments = adam.update(
            parameters,
            gradients,
            state.discriminator_moments,
            knobs.discriminator_learning_rate,
            knobs.beta2_complement,
        )
        judged = Judgement(mean_loss.detach(), real_logits.detach().mean(), fake_logits.detach().mean())
        return state._replace(discriminator_moments=moments), judged

    def update_generator(state: State, fakes: Tensor, knobs: Knobs) -> tuple[State, Tensor]:
        """Judge fakes and move the generator down its loss."""
        parameters = dict(state.generator.named_parameters())
        mean_loss = loss.generator(state.discriminator(fakes)).mean()
        gradients = _gradients(mean_loss, parameters)
        _, moments = adam.update(
            parameters,
            gradients,
            state.generator_moments,
            knobs.generator_learning_rate,
            knobs.beta2_complement,
        )
        return state._replace(generator_moments=moments), mean_loss.detach()

    return step


def to_float(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Map uint8 images (batch, height, width, channel) to [-1, 1]."""
    return images.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map images (batch, height, width, channel) in [-1, 1] to the nearest uint8, ties to even."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _gradients(value: Tensor, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Differentiate a scalar with respect to named parameters, and nothing else."""
    gradients = torch.autograd.grad(value, list(parameters.values()))
    return dict(zip(parameters, gradients, strict=True))


@torch.no_grad()
def update_average(state: State, knobs: Knobs) -> State:
    """Move the averaged generator: decay * average + (1 - decay) * generator; integers are copied."""
    average = state.generator_ema.state_dict()
    current = state.generator.state_dict()
    floating = [name for name, value in current.items() if value.is_floating_point()]
    averages = [average[name] for name in floating]
    torch._foreach_mul_(averages, knobs.ema_decay)
    torch._foreach_add_(averages, [current[name] for name in floating], alpha=1 - knobs.ema_decay)
    for name in current.keys() - set(floating):
        average[name].copy_(current[name])
    return state


def count_step(state: State, finite: Tensor) -> State:
    """Advance the step and remember the first one whose losses were not ``finite``."""
    step = state.step + 1
    first = state.first_non_finite_step
    first = torch.where((first == 0) & ~finite, step, first)
    return state._replace(step=step, first_non_finite_step=first)
