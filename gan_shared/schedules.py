"""Knobs: the scheduled floats of one step, as functions of images seen."""

from math import cos, expm1, log, pi
from typing import NamedTuple

from gan_shared.config import Config, Schedule, ends


class Knobs(NamedTuple):
    """What a schedule may change from step to step; passed as values, never compiled in (law 7).

    Attributes:
        generator_learning_rate: step size of the generator.
        discriminator_learning_rate: step size of the discriminator.
        generator_beta2_complement: 1 - beta2 of the generator's optimiser. The complement keeps its relative
            precision in float32, where 1 - 0.999 is off by 1e-5.
        discriminator_beta2_complement: likewise of the discriminator's.
        ema_complement: 1 - decay of the averaged generator: the weight of the new values, for the same reason.
        gamma: weight of the penalties.
        augment_probability: probability with which an augmentation meets an image, before adaptation.
    """

    generator_learning_rate: float
    discriminator_learning_rate: float
    generator_beta2_complement: float
    discriminator_beta2_complement: float
    ema_complement: float
    gamma: float
    augment_probability: float


def scheduled(value: Schedule, nimg: int, burn_in_nimg: int) -> float:
    """Return a scheduled number after ``nimg`` images: from its first value to its second along half a cosine.

    v(n) = last + (first - last) / 2 * (1 + cos(pi n / N)) up to N = ``burn_in_nimg``, then constant
    (Huang et al. 2024, R3GAN, appendix).
    """
    first, last = ends(value)
    if nimg >= burn_in_nimg:
        return last
    return last + (first - last) / 2 * (1 + cos(pi * nimg / burn_in_nimg))


def ema_complement(batch_size: int, half_life_nimg: float) -> float:
    """Return 1 - 0.5^(batch / half-life), so that an old value's weight halves every ``half_life_nimg`` images.

    A half-life of 0 gives 1: the average is a copy.
    """
    return -expm1(-log(2) * batch_size / half_life_nimg) if half_life_nimg > 0 else 1.0


def images_seen(config: Config, step: int) -> int:
    """Return the images seen after ``step`` steps: a step counts its batch once, however many updates it holds."""
    return step * config.batch_size


def due(step: int, every: int) -> bool:
    """Whether something that happens every ``every`` steps happens after ``step``."""
    return step % every == 0


def call_length(config: Config, step: int) -> int:
    """Return how many steps after ``step`` are one call: up to the next that something happens after, or the last."""
    cadences = (config.log_every, config.sample_every, config.save_every)
    return min(config.steps_per_call, config.steps - step, *(every - step % every for every in cadences))


def knobs(config: Config, step: int) -> Knobs:
    """Return the knobs of ``step``.

    Args:
        config: the run.
        step: the number of steps done before this one.
    """

    def now(value: Schedule) -> float:
        return scheduled(value, images_seen(config, step), config.burn_in_nimg)

    return Knobs(
        generator_learning_rate=now(config.generator_learning_rate),
        discriminator_learning_rate=now(config.discriminator_learning_rate),
        generator_beta2_complement=1.0 - now(config.generator_beta2),
        discriminator_beta2_complement=1.0 - now(config.discriminator_beta2),
        ema_complement=ema_complement(config.batch_size, now(config.ema_half_life_nimg)),
        gamma=now(config.gamma),
        augment_probability=now(config.augment_probability),
    )
