"""Losses of both backends against closed forms in NumPy, saturated logits included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.losses
import gan_torch.losses
from gan_shared.config import LOSSES

REAL = np.array([-100.0, -25.0, -1.5, 0.0, 0.0, 2.0, 25.0, 100.0])
FAKE = np.array([100.0, 25.0, 0.0, 0.0, -3.0, 1.0, -25.0, -100.0])


def softplus(x):
    return np.logaddexp(0, x)


def sigmoid(x):
    # exp of a non-positive number only: no overflow, and the small side keeps its digits.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


# Per loss: D's value, its derivatives to real and fake logits, G's value and its derivative.
CLOSED_FORMS = {
    "bce": (
        softplus(-REAL) + softplus(FAKE),
        -sigmoid(-REAL),
        sigmoid(FAKE),
        softplus(-FAKE),
        -sigmoid(-FAKE),
    ),
    "mse": ((1 - REAL) ** 2 + FAKE**2, 2 * (REAL - 1), 2 * FAKE, (1 - FAKE) ** 2, 2 * (FAKE - 1)),
}


def test_tables_hold_the_same_names():
    assert tuple(gan_torch.losses.LOSSES) == tuple(gan_jax.losses.LOSSES) == LOSSES == tuple(CLOSED_FORMS)


def in_torch(loss):
    real, fake = torch.tensor(REAL, requires_grad=True), torch.tensor(FAKE, requires_grad=True)
    d, g = loss.discriminator(real, fake), loss.generator(fake)
    assert d.shape == g.shape == real.shape, "losses are per sample"
    slopes = torch.autograd.grad(d.sum(), (real, fake))
    (slope,) = torch.autograd.grad(g.sum(), fake)
    return [x.detach().numpy() for x in (d, *slopes, g, slope)]


def in_jax(loss):
    real, fake = jnp.asarray(REAL), jnp.asarray(FAKE)
    d, g = loss.discriminator(real, fake), loss.generator(fake)
    assert d.shape == g.shape == real.shape, "losses are per sample"
    slopes = jax.grad(lambda r, f: loss.discriminator(r, f).sum(), (0, 1))(real, fake)
    return [d, *slopes, g, jax.grad(lambda f: loss.generator(f).sum())(fake)]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("table", "evaluate"),
    [(gan_torch.losses.LOSSES, in_torch), (gan_jax.losses.LOSSES, in_jax)],
    ids=["torch", "jax"],
)
def test_closed_form(table, evaluate, name):
    for value, expected in zip(evaluate(table[name]), CLOSED_FORMS[name], strict=True):
        # Element by element: a scale of the whole vector would hide the small side of a saturated logit. A
        # few units in the last place of exp and log.
        np.testing.assert_allclose(np.asarray(value), expected, rtol=4e-15, atol=0)
