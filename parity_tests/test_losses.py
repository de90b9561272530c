"""Losses and penalties of both backends against closed forms in NumPy, saturated logits included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.losses
import gan_torch.losses
from gan_shared.config import LOSSES, PAIRED_LOSSES, PENALTIES

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


def test_tables_hold_the_same_names():
    assert tuple(gan_torch.losses.LOSSES) == tuple(gan_jax.losses.LOSSES) == LOSSES == tuple(CLOSED_FORMS)
    assert tuple(gan_torch.losses.PENALTIES) == tuple(gan_jax.losses.PENALTIES) == PENALTIES
    for table in (gan_torch.losses.LOSSES, gan_jax.losses.LOSSES):
        assert {name for name, loss in table.items() if loss.paired} == PAIRED_LOSSES


def in_torch(loss):
    real, fake = torch.tensor(REAL, requires_grad=True), torch.tensor(FAKE, requires_grad=True)
    d, g = loss.discriminator(real, fake), loss.generator(real.detach() if loss.paired else None, fake)
    assert d.shape == g.shape == real.shape, "losses are per sample"
    slopes = torch.autograd.grad(d.sum(), (real, fake))
    (slope,) = torch.autograd.grad(g.sum(), fake)
    return [x.detach().numpy() for x in (d, *slopes, g, slope)]


def in_jax(loss):
    real, fake = jnp.asarray(REAL), jnp.asarray(FAKE)
    seen = real if loss.paired else None
    d, g = loss.discriminator(real, fake), loss.generator(seen, fake)
    assert d.shape == g.shape == real.shape, "losses are per sample"
    slopes = jax.grad(lambda r, f: loss.discriminator(r, f).sum(), (0, 1))(real, fake)
    return [d, *slopes, g, jax.grad(lambda f: loss.generator(seen, f).sum())(fake)]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("table", "evaluate"),
    [(gan_torch.losses.LOSSES, in_torch), (gan_jax.losses.LOSSES, in_jax)],
    ids=["torch", "jax"],
)
def test_closed_form(table, evaluate, name):
    for value, expected in zip(evaluate(table[name]), CLOSED_FORMS[name], strict=True):
        assert np.isfinite(value).all()
        # Element by element: a scale of the whole vector would hide the small side of a saturated logit. A
        # few units in the last place of exp and log; frameworks derive a sigmoid y as y (1 - y), one rounding of 1.
        np.testing.assert_allclose(np.asarray(value), expected, rtol=4e-15, atol=1.2e-16 if name == "mse-bce" else 0)


def test_a_sure_probability_keeps_its_digits():
    """(1 - sigmoid(25))^2, beside which the fakes' half is nothing."""
    for losses, number in ((gan_torch.losses, torch.tensor), (gan_jax.losses, jnp.asarray)):
        found = losses.mse_bce_discriminator(number(np.array([25.0])), number(np.array([-100.0])))
        np.testing.assert_allclose(np.asarray(found), np.exp(-25.0) ** 2 / (1 + np.exp(-25.0)) ** 2, rtol=4e-15)


def test_hinge_at_its_corners_takes_the_flat_side():
    """Logits exactly at the margin: torch's relu has derivative 0 there, and so has ours."""
    margin = np.array([1.0, -1.0])
    real, fake = (torch.tensor(x, requires_grad=True) for x in (margin, -margin))
    in_torch = torch.autograd.grad(gan_torch.losses.hinge_discriminator(real, fake).sum(), (real, fake))
    in_jax = jax.grad(lambda r, f: gan_jax.losses.hinge_discriminator(r, f).sum(), (0, 1))(
        jnp.asarray(margin), jnp.asarray(-margin)
    )
    for ours, theirs in zip(in_jax, in_torch, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
        assert theirs[0] == 0 and abs(theirs[1]) == 1


def gradients_at_images(zero: bool) -> np.ndarray:
    """Gradients (batch, height, width, channel) of different lengths; one of them exactly zero when asked."""
    drawn = (
        np.random.default_rng(0).standard_normal((4, 3, 3, 2)) * np.array([1e-3, 0.2, 1.0, 30.0])[:, None, None, None]
    )
    drawn[2] /= np.linalg.norm(drawn[2])  # of length 1: where the gradient penalty has its least value
    if zero:
        drawn[0] = 0.0
    return drawn


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("zero", [False, True])
def test_penalties_per_image_in_closed_form(name, zero):
    """The norm runs over each image, not over the batch; at a gradient of zero nothing is NaN."""
    given = gradients_at_images(zero)
    norms = np.sqrt((given**2).sum((1, 2, 3)))[:, None, None, None]
    if name == "gradient-penalty":
        # The small number below the root shows only where the norm is as small as its own root, 1e-6.
        soft = np.sqrt(norms**2 + 1e-12)
        expected, slope = (soft - 1) ** 2, 2 * (soft - 1) * given / soft
    else:
        expected, slope = norms**2 / 2, given
    tensor = torch.tensor(given.transpose(0, 3, 1, 2), requires_grad=True)
    value = gan_torch.losses.PENALTIES[name].value(tensor)
    (derivative,) = torch.autograd.grad(value.sum(), tensor)
    penalty = gan_jax.losses.PENALTIES[name].value
    also = jax.grad(lambda g: penalty(g).sum())(jnp.asarray(given))
    for found in (value.detach().numpy(), np.asarray(penalty(jnp.asarray(given)))):
        np.testing.assert_allclose(found, expected[:, 0, 0, 0], rtol=1e-13, atol=1e-30)
    # Next to a norm of 1 the difference soft - 1 keeps fewer digits: hence the absolute part.
    for found in (derivative.numpy().transpose(0, 2, 3, 1), np.asarray(also)):
        np.testing.assert_allclose(found, slope, rtol=1e-13, atol=1e-15)


def test_penalties_look_where_their_papers_say():
    places = {name: penalty.point for name, penalty in gan_torch.losses.PENALTIES.items()}
    assert places == {"gradient-penalty": "mixtures", "r1": "reals", "r2": "fakes"}
    assert places == {name: penalty.point for name, penalty in gan_jax.losses.PENALTIES.items()}
