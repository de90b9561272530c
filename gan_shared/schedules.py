"""Knobs: the scheduled floats of one step, as functions of images seen."""

from math import expm1, log
from typing import NamedTuple

from gan_shared.config import Config


class Knobs(NamedTuple):
    """What a schedule may change from step to step; passed as values, never compiled in (law 7).

    Attributes:
        generator_learning_rate: Adam step size of the generator.
        discriminator_learning_rate: Adam step size of the discriminator.
        beta2_complement: 1 - beta2 of Adam. The complement keeps its relative precision in float32,
            where 1 - 0.999 is off by 1e-5.
        ema_complement: 1 - decay of the averaged generator: the weight of the new values, for the same reason.
    """

    generator_learning_rate: float
    discriminator_learning_rate: float
    beta2_complement: float
    ema_complement: float


def ema_complement(batch_size: int, half_life_nimg: float) -> float:
    """Return 1 - 0.5^(batch / half-life), so that an old value's weight halves every ``half_life_nimg`` images.

    A half-life of 0 gives 1: the average is a copy.
    """
    return -expm1(-log(2) * batch_size / half_life_nimg) if half_life_nimg > 0 else 1.0


def images_seen(config: Config, step: int) -> int:
    """Return the images seen after ``step`` steps: a step counts its batch once, however many updates it holds."""
    return step * config.batch_size


def knobs(config: Config, step: int) -> Knobs:
    """Return the knobs of ``step``.

    Args:
        config: the run.
        step: the number of steps done before this one. Nothing is scheduled by images seen yet.
    """
    del step
    return Knobs(
        generator_learning_rate=config.generator_learning_rate,
        discriminator_learning_rate=config.discriminator_learning_rate,
        beta2_complement=1.0 - config.beta2,
        ema_complement=ema_complement(config.batch_size, config.ema_half_life_nimg),
    )
