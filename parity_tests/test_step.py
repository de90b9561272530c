"""One step of both backends, every tensor, in float64."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import pair
from parity_tests.pair import BACKENDS, CONFIGS, ONE_STEP, SMALL, assert_close, assert_states_close, run


def one_step(config, warm_up=0):
    """Step both backends once from the same state, ``warm_up`` steps into a run."""
    torch_backend, jax_backend = pair.backend("torch", config), pair.backend("jax", config)
    state, _ = run(torch_backend, torch_backend.init(), 0, warm_up)
    other = jax_backend.restore(torch_backend.export(state))
    state, logged = run(torch_backend, state, warm_up, 1)
    other, also_logged = run(jax_backend, other, warm_up, 1)
    return torch_backend.export(state), jax_backend.export(other), logged[0], also_logged[0]


@pytest.mark.parametrize("warm_up", [0, 10])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_parameters_moments_average_and_statistics(name, warm_up):
    ours, theirs, logged, also_logged = one_step(CONFIGS[name], warm_up)
    assert_states_close(ours, theirs, ONE_STEP)
    for key, value in logged.items():
        assert_close(also_logged[key], value, ONE_STEP, key)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients(name):
    """With beta1 = 0 Adam's first moment is the gradient of the step itself."""
    ours, theirs, *_ = one_step(replace(CONFIGS[name], beta1=0.0), warm_up=2)
    gradients = [key for key in theirs if key.endswith(".exp_avg")]
    assert len(gradients) > 10
    for key in gradients:
        assert np.abs(theirs[key]).max() > 0, f"{key}: no gradient"
        assert_close(ours[key], theirs[key], ONE_STEP, key)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_jax_step_keeps_structure_shapes_and_types(precision):
    """Nothing drifts to another precision, and the state that comes out fits the step it came from."""
    twin = pair.backend("jax", replace(SMALL, precision=precision))
    begin = jax.tree.map(jnp.zeros_like, twin.init())
    state, _ = run(twin, twin.init(), 0, 1)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, begin)
    floating = {leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floating == {jnp.dtype(precision)}


def test_one_image_per_batch():
    ours, theirs, *_ = one_step(replace(SMALL, batch_size=1))
    assert_states_close(ours, theirs, ONE_STEP)


def test_saturated_logits():
    """Discriminator weights large enough for logits of hundreds: losses stay finite and equal."""
    torch_backend, jax_backend = pair.backend("torch", SMALL), pair.backend("jax", SMALL)
    tensors = torch_backend.export(torch_backend.init())
    tensors["discriminator/head.weight"] = tensors["discriminator/head.weight"] * 500
    state, logged = run(torch_backend, torch_backend.restore(tensors), 0, 1)
    other, also_logged = run(jax_backend, jax_backend.restore(tensors), 0, 1)
    assert max(abs(logged[0]["real_logit"]), abs(logged[0]["fake_logit"])) > 100
    assert_states_close(jax_backend.export(other), torch_backend.export(state), ONE_STEP)
    assert_close(also_logged[0]["generator_loss"], logged[0]["generator_loss"], ONE_STEP, "loss")


@pytest.mark.parametrize("backend", BACKENDS)
def test_average_is_decay_times_average_plus_the_rest(backend):
    """Against NumPy; half-life 0 copies."""
    for half_life, decay in ((0.0, 0.0), (4.0, 0.25), (16.0, 0.5**0.5)):  # 8 images per step
        twin = pair.backend(backend, replace(SMALL, ema_half_life_nimg=half_life))
        state, _ = run(twin, twin.init(), 0, 3)
        before = twin.export(state)
        state, _ = run(twin, state, 3, 1)
        after = twin.export(state)
        for key in (k for k in after if k.startswith("generator_ema/") and "num_batches" not in k):
            current = after[key.replace("generator_ema", "generator")]
            expected = decay * before[key] + (1 - decay) * current
            assert_close(after[key], expected, 1e-15 if decay else 0.0, key)  # half-life 0 copies, exactly


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_step_that_is_not_finite_is_remembered(backend):
    twin = pair.backend(backend, SMALL)
    state, logged = run(twin, twin.init(), 0, 2)
    assert logged[-1]["first_non_finite_step"] == 0
    tensors = twin.export(state)
    tensors["discriminator/head.weight"] = tensors["discriminator/head.weight"] * np.nan
    _, logged = run(twin, twin.restore(tensors), 2, 3)
    assert [line["first_non_finite_step"] for line in logged] == [3, 3, 3]
