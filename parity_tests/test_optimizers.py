"""Adam of both backends against torch.optim.Adam."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.optimizers
import gan_torch.optimizers
from parity_tests.pair import assert_close

SHAPES = {"kernel": (3, 2), "bias": (4,)}


def gradients(step: int) -> dict[str, np.ndarray]:
    """Gradients over nine orders of magnitude, with exact zeros."""
    rng = np.random.default_rng(step)
    drawn = {name: rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 1) for name, shape in SHAPES.items()}
    drawn["bias"][0] = 0.0
    return drawn


def schedule(step: int) -> tuple[float, float]:
    """Learning rate and beta2, both changing on the way."""
    return 2e-3 * 0.97**step, 0.9 if step < 20 else 0.999


def reference(steps: int, dtype: torch.dtype) -> dict[str, np.ndarray]:
    parameters = {n: torch.nn.Parameter(torch.ones(s, dtype=dtype)) for n, s in SHAPES.items()}
    optimizer = torch.optim.Adam(parameters.values(), betas=(0.5, 0.9), eps=1e-8)
    for step in range(steps):
        rate, beta2 = schedule(step)
        optimizer.param_groups[0].update(lr=rate, betas=(0.5, beta2))
        for name, gradient in gradients(step).items():
            parameters[name].grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
    moments = {
        f"{name}.{key}": optimizer.state[p][key].numpy()
        for name, p in parameters.items()
        for key in ("exp_avg", "exp_avg_sq")
    }
    return moments | {name: p.detach().numpy() for name, p in parameters.items()}


def in_torch(steps: int, dtype: torch.dtype) -> dict[str, np.ndarray]:
    adam = gan_torch.optimizers.Adam(beta1=0.5)
    parameters = {n: torch.ones(s, dtype=dtype) for n, s in SHAPES.items()}
    moments = adam.init(parameters)
    for step in range(steps):
        rate, beta2 = schedule(step)
        given = {n: torch.tensor(g, dtype=dtype) for n, g in gradients(step).items()}
        parameters, moments = adam.update(parameters, given, moments, rate, 1 - beta2)
    assert all(int(count) == steps for count in moments.step.values())
    return flat(parameters, moments)


def in_jax(steps: int, dtype) -> dict[str, np.ndarray]:
    adam = gan_jax.optimizers.Adam(beta1=0.5)
    parameters = {n: jnp.ones(s, dtype) for n, s in SHAPES.items()}
    moments = adam.init(parameters)
    for step in range(steps):
        rate, beta2 = schedule(step)
        given = {n: jnp.asarray(g, dtype) for n, g in gradients(step).items()}
        parameters, moments = adam.update(
            parameters, given, moments, jnp.asarray(rate, dtype), jnp.asarray(1 - beta2, dtype)
        )
    assert int(moments.step) == steps
    return flat(parameters, moments)


def flat(parameters, moments) -> dict[str, np.ndarray]:
    named = {f"{n}.{key}": getattr(moments, key)[n] for n in SHAPES for key in ("exp_avg", "exp_avg_sq")}
    return {name: np.asarray(value) for name, value in (named | parameters).items()}


@pytest.mark.parametrize("steps", [1, 50])
@pytest.mark.parametrize(
    "ours", [lambda n: in_torch(n, torch.float64), lambda n: in_jax(n, jnp.float64)], ids=["torch", "jax"]
)
def test_equals_torch_over_steps(ours, steps):
    expected, found = reference(steps, torch.float64), ours(steps)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, 1e-13, name)  # 50 updates of a few roundings each


@pytest.mark.parametrize(
    "ours", [lambda: in_torch(1, torch.float32), lambda: in_jax(1, jnp.float32)], ids=["torch", "jax"]
)
def test_first_float32_update_keeps_its_digits(ours):
    """A bias correction formed as 1 - 0.999 in float32 is off by 1e-5; nothing here needs to lose that."""
    exact, found = reference(1, torch.float64), ours()
    for name in SHAPES:
        moved, expected = found[name].astype(np.float64) - 1, exact[name] - 1
        # The parameter itself is rounded to float32 next to 1: 6e-8, of an update of 2e-3.
        assert np.abs(moved - expected).max() <= 6.1e-8, name
        for key in ("exp_avg", "exp_avg_sq"):
            assert_close(found[f"{name}.{key}"].astype(np.float64), exact[f"{name}.{key}"], 3e-7, f"{name}.{key}")


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.999])
def test_float32_bias_correction_at_betas_near_one(beta1):
    """From zero parameters the float32 update itself shows: within a few float32 roundings of the exact one."""
    gradient, rate = np.array([0.3, -2.0, 1e-4]), 2e-4
    adam = gan_jax.optimizers.Adam(beta1)
    parameters = {"w": jnp.zeros(3, jnp.float32)}
    moments = adam.init(parameters)
    knobs = (jnp.asarray(rate, jnp.float32), jnp.asarray(1 - 0.999, jnp.float32))
    for _ in range(3):
        parameters, moments = adam.update(parameters, {"w": jnp.asarray(gradient, jnp.float32)}, moments, *knobs)
    # A constant gradient g moves every weight by rate * g / (|g| + epsilon) in each step.
    exact = -3 * rate * gradient / (np.abs(gradient) + 1e-8)
    np.testing.assert_allclose(np.asarray(parameters["w"], np.float64), exact, rtol=1e-6, atol=0)
