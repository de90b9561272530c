"""The scheduled numbers of one step, as functions of images seen."""

from math import cos, expm1, log, pi
from typing import NamedTuple

from gan_shared.config import Config
from gan_shared.options import Schedule, ends
from gan_shared.segments import images_seen


class ScheduleValues(NamedTuple):
    """What a schedule may change from step to step; passed as values, never compiled in (law 7).

    Attributes:
        generator_learning_rate: step size of the generator.
        discriminator_learning_rate: step size of the discriminator.
        generator_square_decay_complement: 1 - the decay of the squared gradient average of the generator's optimiser
            (beta2 of adam and adamw, alpha of rmsprop). The complement keeps its relative precision in float32, where
            1 - 0.999 is off by 1e-5.
        discriminator_square_decay_complement: the same number of the discriminator's optimiser.
        ema_complement: 1 - decay of the averaged generator: the weight of the new values, for the same reason.
        gamma: weight of the penalties: at a step that has them that of all the steps since the last one, else 0.
        augment_probability: probability with which an augmentation is applied to an image, before adaptation.
    """

    generator_learning_rate: float
    discriminator_learning_rate: float
    generator_square_decay_complement: float
    discriminator_square_decay_complement: float
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


def schedule_values(config: Config, step: int) -> ScheduleValues:
    """Return the scheduled numbers of ``step``.

    Args:
        config: the run.
        step: the number of steps done before this one.
    """
    nimg = images_seen(config, step)
    every = config.objective.penalty_every

    def now(value: Schedule) -> float:
        return scheduled(value, nimg, config.training.burn_in_nimg)

    return ScheduleValues(
        generator_learning_rate=now(config.generator_optimizer.learning_rate),
        discriminator_learning_rate=now(config.discriminator_optimizer.learning_rate),
        generator_square_decay_complement=1.0 - now(config.generator_optimizer.square_decay()),
        discriminator_square_decay_complement=1.0 - now(config.discriminator_optimizer.square_decay()),
        ema_complement=ema_complement(config.training.batch_size, now(config.training.ema_half_life_nimg)),
        gamma=every * now(config.objective.gamma) if (step + 1) % every == 0 else 0.0,
        augment_probability=now(config.augmentation.augment_probability),
    )


def constant_values(config: Config) -> dict[str, float]:
    """Return by name the scheduled numbers that are the same at every step of a run."""
    steps = (0, config.objective.penalty_every - 1, config.training.burn_in_nimg)
    first, *others = (schedule_values(config, step)._asdict() for step in steps)
    return {name: value for name, value in first.items() if all(value == other[name] for other in others)}


def penalties_due(config: Config, values: ScheduleValues) -> bool:
    """Return whether a step takes the penalties of its run.

    With ``penalty_every`` of K it is every K-th one (lazy regularization, Karras et al. 2020, StyleGAN2,
    arXiv:1912.04958, section 3.1). The others are steps of ``config.without_penalties()``.
    """
    return config.objective.penalty_every == 1 or values.gamma != 0
