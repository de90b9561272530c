"""float32 steps, from states along a float64 run: neither backend is much further from float64 than the other."""

import numpy as np
import pytest
from jax import lax

import gan_jax.layers
from gan_parity import float32, runs
from gan_parity.compare import PARTS
from gan_parity.configurations import PRESET_CONFIGS, SMALL
from gan_parity.float32 import WORSE
from gan_parity.runs import BACKENDS, run

STATES = (1, 4, 12)


def multiples(config):
    """Return per part of the state the worse backend's error as a multiple of the other's, over three states."""
    exact, single = (config.with_options(precision=precision) for precision in ("float64", "float32"))
    twin, done = runs.backend("torch", exact), 0
    state, errors = twin.init(), {part: {name: [] for name in BACKENDS} for part in PARTS}
    for step in STATES:
        state, _ = run(twin, state, done, step - done)
        tensors, done = twin.export(state), step
        for name, found in float32.step_errors(exact, single, tensors, step).items():
            for part in PARTS:
                errors[part][name].append(float32.of_part(found, tensors, part))
    return {part: float32.multiple(of_part) for part, of_part in errors.items()}


# At 32 pixels r3gan-ffhq-256 has the networks of r3gan-cifar10; the report (docs/parity.md) has its numbers.
@pytest.mark.parametrize("name", [name for name in PRESET_CONFIGS if name != "r3gan-ffhq-256"])
def test_neither_backend_is_much_further_from_float64(name):
    # One discriminator update: a second one is rounded as the first, and compiled for as long.
    for part, multiple in multiples(PRESET_CONFIGS[name].with_options(discriminator_updates=1)).items():
        assert multiple <= WORSE, f"{part}: one is {multiple:.2f} times as far off as the other"


def test_a_backend_that_computes_in_tf32_is_found_worse(monkeypatch):
    """TF32, as a GPU left alone computes products of matrices and convolutions: 10 bits of each factor."""
    right = gan_jax.layers.convolve

    def short(x, kernel, stride, padding):
        return right(lax.reduce_precision(x, 8, 10), lax.reduce_precision(kernel, 8, 10), stride, padding)

    runs.backend.cache_clear()
    monkeypatch.setattr(gan_jax.layers, "convolve", short)
    try:
        found = multiples(SMALL)
    finally:
        runs.backend.cache_clear()
    assert found["optimizer/discriminator."] > 30 and found["discriminator/"] > WORSE


@pytest.mark.parametrize(("torch", "jax", "found"), [(1e-9, 1e-7, 1.0), (1e-5, 4e-5, 4.0), (1e-5, np.nan, np.inf)])
def test_a_multiple_is_of_medians_above_the_floor(torch, jax, found):
    assert float32.multiple({"torch": [torch] * 3, "jax": [jax, jax, 2e-9]}) == pytest.approx(found)


def test_one_state_counts_little_unless_it_is_not_finite():
    assert float32.multiple({"torch": [1e-5] * 3, "jax": [1e-5, 1e-5, 1e-2]}) == 1.0
    assert float32.multiple({"torch": [1e-5] * 3, "jax": [1e-5, 1e-5, np.inf]}) == np.inf


def test_errors_are_weighted_by_the_sizes_of_tensors():
    tensors = {"generator/a": np.ones(1), "generator/b": np.ones(15), "discriminator/c": np.ones(4)}
    errors = {"generator/a": 7.0, "generator/b": 1.0, "discriminator/c": 100.0}
    assert float32.of_part(errors, tensors, "generator/") == pytest.approx(2.0)  # root of (49 + 15) / 16


def test_a_tensor_that_does_not_move_is_measured_by_the_moves_of_its_network():
    moves = {"generator/a": np.array([3.0, -4.0]), "generator/b": np.array([1e-20]), "discriminator/c": np.ones(1)}
    assert float32.moves(moves) == {"generator/a": 4.0, "generator/b": 4.0, "discriminator/c": 1.0}


def test_averages_of_squares_are_not_measured_by_averages_of_gradients():
    name = "optimizer/generator.state.w"
    moves = {f"{name}.exp_avg": np.ones(1), f"{name}.exp_avg_sq": np.full(1, 1e-9)}
    assert float32.moves(moves) == {f"{name}.exp_avg": 1.0, f"{name}.exp_avg_sq": 1e-9}
