"""Losses and penalties of both backends against closed forms in NumPy, saturated logits included."""

import numpy as np
import pytest

from gan_shared.config import options
from gan_shared.option_groups import CUSTOM_PAIRED, PAIRED_LOSSES
from parity_tests.cases import Case, all_of, in_both

pytestmark = pytest.mark.fast

REAL = np.array([-100.0, -25.0, -1.5, 0.0, 0.0, 2.0, 25.0, 100.0])
FAKE = np.array([100.0, 25.0, 0.0, 0.0, -3.0, 1.0, -25.0, -100.0])


def softplus(x):
    return np.logaddexp(0, x)


def sigmoid(x):
    # exp of a non-positive number only: no overflow, and the small side keeps its digits.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


# D's value and its derivatives to real and fake logits.
BCE_D = (softplus(-REAL) + softplus(FAKE), -sigmoid(-REAL), sigmoid(FAKE))
# G's value and its derivative to the fake logits.
BCE_G = (softplus(-FAKE), -sigmoid(-FAKE))
WASSERSTEIN_G = (-FAKE, -np.ones_like(FAKE))
LOSSES, PENALTIES = (options()[name].choices for name in ("loss", "penalties"))
CLOSED_FORMS = {
    "bce": (*BCE_D, *BCE_G),
    "minimax": (*BCE_D, -softplus(FAKE), -sigmoid(FAKE)),
    "mse": ((1 - REAL) ** 2 + FAKE**2, 2 * (REAL - 1), 2 * FAKE, (1 - FAKE) ** 2, 2 * (FAKE - 1)),
    "mse-bce": (
        # 1 - sigmoid(x) is sigmoid(-x), which keeps its digits for large x.
        sigmoid(-REAL) ** 2 + softplus(FAKE),
        -2 * sigmoid(-REAL) ** 2 * sigmoid(REAL),
        sigmoid(FAKE),
        *BCE_G,
    ),
    "hinge": (
        np.maximum(0, 1 - REAL) + np.maximum(0, 1 + FAKE),
        np.where(REAL < 1, -1.0, 0.0),
        np.where(FAKE > -1, 1.0, 0.0),
        *WASSERSTEIN_G,
    ),
    "wasserstein": (FAKE - REAL, -np.ones_like(REAL), np.ones_like(FAKE), *WASSERSTEIN_G),
    "relativistic": (
        softplus(FAKE - REAL),
        -sigmoid(FAKE - REAL),
        sigmoid(FAKE - REAL),
        softplus(REAL - FAKE),
        -sigmoid(REAL - FAKE),
    ),
}


@in_both
def test_the_tables_hold_the_names_of_the_options(twin):
    losses = twin.module("losses")
    assert tuple(losses.LOSSES) == LOSSES == tuple(CLOSED_FORMS) and tuple(losses.PENALTIES) == PENALTIES
    assert {name for name, loss in losses.LOSSES.items() if loss.paired} == PAIRED_LOSSES - {CUSTOM_PAIRED}


def discriminator_case(name):
    value, for_real, for_fake, *_ = CLOSED_FORMS[name]
    # A few units in the last place of exp and log; frameworks derive a sigmoid y as y (1 - y), one rounding of 1.
    atol = 1.2e-16 if name == "mse-bce" else 0.0
    return Case(
        f"{name}, discriminator",
        lambda twin: twin.module("losses").LOSSES[name].discriminator,
        (REAL, FAKE),
        value,
        (for_real, for_fake),
        4e-15,
        atol,
    )


def generator_case(name):
    *_, value, for_fake = CLOSED_FORMS[name]

    def function(twin):
        loss = twin.module("losses").LOSSES[name]
        real = twin.array(REAL) if loss.paired else None
        return lambda fake: loss.generator(real, fake)

    return Case(f"{name}, generator", function, (FAKE,), value, (for_fake,), 4e-15)


def penalty_case(name, zero):
    """The norm runs over each image, not over the batch; at a gradient of zero nothing is NaN."""
    given = gradients_at_images(zero)
    norms = np.sqrt((given**2).sum((1, 2, 3)))[:, None, None, None]
    if name == "gradient-penalty":
        # The small number below the root shows only where the norm is as small as its own root, 1e-6.
        soft = np.sqrt(norms**2 + 1e-12)
        value, slope = (soft - 1) ** 2, 2 * (soft - 1) * given / soft
    else:
        value, slope = norms**2 / 2, given
    return Case(
        f"{name}{', one gradient zero' if zero else ''}",
        lambda twin: twin.module("losses").PENALTIES[name].value,
        (given,),
        value[:, 0, 0, 0],
        (slope,),
        1e-13,
        1e-15,  # beside a norm of 1 the difference soft - 1 keeps fewer digits
    )


def gradients_at_images(zero: bool) -> np.ndarray:
    """Gradients (batch, height, width, channel) of different lengths; one of them exactly zero when asked."""
    drawn = np.random.default_rng(0).standard_normal((4, 3, 3, 2))
    drawn *= np.array([1e-3, 0.2, 1.0, 30.0])[:, None, None, None]
    drawn[2] /= np.linalg.norm(drawn[2])  # of length 1: where the gradient penalty has its least value
    if zero:
        drawn[0] = 0.0
    return drawn


CASES = [
    *map(discriminator_case, LOSSES),
    *map(generator_case, LOSSES),
    *(penalty_case(name, zero) for name in PENALTIES for zero in (False, True)),
]


@in_both
@all_of(CASES)
def test_losses_and_penalties_have_their_closed_forms_per_sample(case, twin):
    case.check(twin)


@in_both
def test_a_sure_probability_keeps_its_digits(twin):
    """(1 - sigmoid(25))^2, beside which the fakes' half is nothing."""
    found = twin.value(twin.module("losses").mse_bce_discriminator, np.array([25.0]), np.array([-100.0]))
    np.testing.assert_allclose(found, np.exp(-25.0) ** 2 / (1 + np.exp(-25.0)) ** 2, rtol=4e-15)


@in_both
def test_hinge_has_derivative_zero_at_its_margin(twin):
    """Logits exactly at the margin: torch's relu has derivative 0 there."""
    margin = np.array([1.0, -1.0])
    _, slopes = twin.gradients(twin.module("losses").hinge_discriminator, margin, -margin)
    np.testing.assert_array_equal(slopes, [[0.0, -1.0], [0.0, 1.0]])


@in_both
def test_penalties_are_taken_at_the_images_of_their_papers(twin):
    places = {name: penalty.point for name, penalty in twin.module("losses").PENALTIES.items()}
    assert places == {"gradient-penalty": "interpolated", "r1": "real", "r2": "fake"}


@in_both
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_elementwise_on_logits_of_any_shape(twin, name):
    """Those of a map of logits are those of its logits, in its shape."""
    loss = twin.module("losses").LOSSES[name]
    for part, paired in ((loss.discriminator, True), (loss.generator, loss.paired)):
        of_list = part(twin.array(REAL) if paired else None, twin.array(FAKE))
        of_map = part(twin.array(REAL.reshape(2, 2, 2)) if paired else None, twin.array(FAKE.reshape(2, 2, 2)))
        np.testing.assert_array_equal(np.asarray(of_map), np.asarray(of_list).reshape(2, 2, 2))
