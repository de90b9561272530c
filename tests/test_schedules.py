"""Schedule values: the closed forms of the schedules, worked out by hand, and where each begins and ends."""

from itertools import pairwise
from math import cos, pi, sqrt

import numpy as np
import pytest

from gan_shared.config import Config
from gan_shared.schedules import (
    ScheduleValues,
    constant_values,
    ema_complement,
    images_seen,
    penalties_due,
    schedule_values,
    scheduled,
)

pytestmark = pytest.mark.fast

# Two roundings of one multiplication and two additions, in units of the larger end.
ROUNDING = 4 * 2.0**-52
PAIRS = [(1.0, 0.1), (0.9, 0.99), (2e-4, 5e-5), (0.0, 5e5), (0.0, 0.55), (0.05, 0.005), (150.0, 15.0), (3.0, 0.0)]
# Huang et al. 2024 (R3GAN), CIFAR-10, conditional.
CIFAR = Config().with_options(
    loss="relativistic",
    penalties=("r1", "r2"),
    gamma=(0.05, 0.005),
    generator_learning_rate=(2e-4, 5e-5),
    discriminator_learning_rate=(2e-4, 5e-5),
    generator_beta1=0.0,
    discriminator_beta1=0.0,
    generator_beta2=(0.9, 0.99),
    discriminator_beta2=(0.9, 0.99),
    ema_half_life_nimg=(0.0, 5e6),
    augment=("flip",),
    augment_probability=(0.0, 0.55),
    burn_in_nimg=20_000_000,
    batch_size=512,
    steps=250_000_000 // 512,
)


def close(value: float, expected: float, scale: float) -> bool:
    return abs(value - expected) <= ROUNDING * scale


@pytest.mark.parametrize(("first", "last"), PAIRS)
def test_a_schedule_goes_from_its_first_value_along_half_a_cosine_to_its_last(first, last):
    def at(nimg: int) -> float:
        return scheduled((first, last), nimg, 1200)

    scale = max(first, last)
    assert close(at(0), first, scale)
    assert close(at(600), (first + last) / 2, scale)
    # A sixth, a quarter and a third of half a turn: cosines of 30, 45 and 60 degrees.
    for nimg, cosine in ((200, sqrt(3) / 2), (300, sqrt(1 / 2)), (400, 1 / 2)):
        assert close(at(nimg), first * (1 + cosine) / 2 + last * (1 - cosine) / 2, scale), nimg
        assert close(at(1200 - nimg), first * (1 - cosine) / 2 + last * (1 + cosine) / 2, scale), nimg
    assert [at(nimg) for nimg in (1200, 1201, 10**12)] == [last] * 3
    path = [at(nimg) for nimg in range(1201)]
    assert path == sorted(path, reverse=first > last) and len(set(path)) > 1000


@pytest.mark.parametrize("value", [0.0, 2e-4, 0.999, 5000.0, 1 / 3])
@pytest.mark.parametrize("burn_in_nimg", [0, 1, 1000])
def test_one_value_is_exactly_itself_whatever_the_burn_in(value, burn_in_nimg):
    for nimg in (0, 1, 333, 999, 1000, 10**9):
        assert scheduled(value, nimg, burn_in_nimg) == value
        assert scheduled((value, value), nimg, burn_in_nimg) == value


def test_a_schedule_without_burn_in_is_at_its_last_value():
    assert scheduled((1.0, 0.1), 0, 0) == 0.1


def test_images_seen_grow_by_the_batch_however_many_updates_a_step_has():
    config = CIFAR.with_options(discriminator_updates=5)
    assert [images_seen(config, step) for step in (0, 1, 1000)] == [0, 512, 512_000]


def test_every_schedule_value_is_the_field_that_it_is_named_for():
    config = Config().with_options(
        generator_learning_rate=1e-3,
        discriminator_learning_rate=2e-3,
        generator_beta2=0.75,
        discriminator_beta2=0.5,
        ema_half_life_nimg=0.0,
        penalties=("r1",),
        gamma=10.0,
        augment=("flip",),
        augment_probability=0.25,
    )
    assert schedule_values(config, 7) == ScheduleValues(
        generator_learning_rate=1e-3,
        discriminator_learning_rate=2e-3,
        generator_square_decay_complement=0.25,
        discriminator_square_decay_complement=0.5,
        ema_complement=1.0,
        gamma=10.0,
        augment_probability=0.25,
    )
    assert len(ScheduleValues._fields) == 7


def test_the_first_step_and_those_after_the_burn_in_have_r3gans_numbers():
    first, after = (
        schedule_values(CIFAR, 0),
        schedule_values(CIFAR, 39_063),
    )  # 39,062.5 batches of 512 are 20 million images
    expected = {
        "generator_learning_rate": (2e-4, 5e-5),
        "discriminator_learning_rate": (2e-4, 5e-5),
        "generator_square_decay_complement": (0.1, 0.01),
        "discriminator_square_decay_complement": (0.1, 0.01),
        "gamma": (0.05, 0.005),
        "augment_probability": (0.0, 0.55),
    }
    for name, (begin, end) in expected.items():
        assert close(getattr(first, name), begin, 1.0 if "square_decay" in name else 0.05), name
        assert close(getattr(after, name), end, 1.0 if "square_decay" in name else 0.05), name
    assert first.augment_probability == 0.0
    assert first.ema_complement == 1.0
    # 1 - 2^(-512 / 5e6) to its second order, whose third is 6e-14 of it.
    exponent = np.log(2) * 512 / 5e6
    assert abs(after.ema_complement / (exponent - exponent**2 / 2 + exponent**3 / 6) - 1) < 1e-12
    assert schedule_values(CIFAR, CIFAR.execution.steps) == after
    assert schedule_values(CIFAR, 39_062) != after


def test_schedule_values_at_half_the_burn_in_are_the_means_of_first_and_last():
    half = schedule_values(CIFAR.with_options(batch_size=500), 20_000)
    assert close(half.gamma, 0.0275, 0.05)
    assert close(half.generator_learning_rate, 1.25e-4, 2e-4)
    assert close(half.discriminator_learning_rate, 1.25e-4, 2e-4)
    # The mean of beta2, not of its logarithm or half-life.
    assert close(half.generator_square_decay_complement, 0.055, 1.0)
    assert close(half.discriminator_square_decay_complement, 0.055, 1.0)
    assert close(half.augment_probability, 0.275, 0.55)
    # The half-life is what is scheduled, 2.5 million images here, not the decay.
    assert abs((1 - half.ema_complement) ** 5000 - 0.5) < 1e-12


def test_the_average_forgets_half_in_a_half_life():
    for batch_size, half_life in ((1, 100.0), (64, 640.0), (512, 512.0), (10, 1000.0)):
        weight = (1 - ema_complement(batch_size, half_life)) ** (half_life / batch_size)
        assert abs(weight - 0.5) < 1e-13
    assert ema_complement(64, 64.0) == 0.5
    assert ema_complement(64, 0.0) == 1.0


def test_a_half_life_that_grows_from_0_begins_as_a_copy_and_never_forgets_more():
    config = CIFAR.with_options(ema_half_life_nimg=(0.0, 5e5), burn_in_nimg=2_000_000)
    weights = [schedule_values(config, step).ema_complement for step in range(4000)]
    assert weights[0] == 1.0
    assert all(0.0 < later <= earlier <= 1.0 for earlier, later in pairwise(weights))
    step = 1000
    half_life = 5e5 * (1 - cos(pi * step * 512 / 2e6)) / 2
    assert abs((1 - weights[step]) ** (half_life / 512) - 0.5) < 1e-12


@pytest.mark.parametrize(("beta2", "complement"), [(0.999, 1e-3), (0.99, 1e-2), (0.9999, 1e-4)])
def test_the_complements_keep_their_precision_in_float32(beta2, complement):
    drawn = schedule_values(Config().with_options(generator_beta2=beta2, discriminator_beta2=beta2), 0)
    for value in (drawn.generator_square_decay_complement, drawn.discriminator_square_decay_complement):
        # Half a unit in the last place of float32, where 1 - float32(0.999) is off by 1e-5.
        assert abs(float(np.float32(value)) / complement - 1) <= 2.0**-24 + 1e-11
        assert abs(float(np.float32(1) - np.float32(beta2)) / complement - 1) > 1e-7
    slow = ema_complement(1, 1e12)
    assert abs(slow / (np.log(2) / 1e12) - 1) < 1e-11


@pytest.mark.parametrize("every", [1, 2, 4])
def test_penalties_of_every_kth_step_weigh_as_much_as_those_of_all(every):
    config = CIFAR.with_options(penalty_every=every, batch_size=100, burn_in_nimg=1200)
    each = [schedule_values(config.with_options(penalty_every=1), step).gamma for step in range(16)]
    found = [schedule_values(config, step) for step in range(16)]
    for step, values in enumerate(found):
        due = step % every == every - 1
        assert values.gamma == (every * each[step] if due else 0.0)
        assert penalties_due(config, values) is due
        assert values._replace(gamma=each[step]) == schedule_values(config.with_options(penalty_every=1), step)


def test_penalties_of_weight_0_are_taken_where_every_step_has_them():
    """Their forwards advance the discriminator's statistics, whatever they weigh."""
    config = CIFAR.with_options(gamma=(3.0, 0.0), burn_in_nimg=1)
    values = schedule_values(config, 5)
    assert values.gamma == 0.0 and penalties_due(config, values)


@pytest.mark.parametrize("every", [1, 4])
def test_the_constant_values_are_those_that_no_step_changes(every):
    config = Config().with_options(
        batch_size=8,
        burn_in_nimg=100,
        penalties=("r1",),
        penalty_every=every,
        gamma=(1.0, 0.1) if every == 1 else 1.0,
        generator_learning_rate=(2e-4, 1e-4),
        discriminator_beta2=(0.9, 0.99),
    )
    steps = [schedule_values(config, step) for step in range(20)]
    same = {name: value for name, value in steps[0]._asdict().items() if all(getattr(s, name) == value for s in steps)}
    assert constant_values(config) == same
    changing = {"gamma", "generator_learning_rate", "discriminator_square_decay_complement"}
    assert ScheduleValues._fields and set(ScheduleValues._fields) - set(same) == changing
