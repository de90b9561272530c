"""One step of both backends, every tensor, in float64."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.step
import gan_torch.step
from gan_shared.checkpoint import TRAINED
from gan_shared.schedules import knobs
from parity_tests import pair
from parity_tests.pair import (
    BACKENDS,
    CONFIGS,
    ONE_STEP,
    PRESET_CONFIGS,
    SHORTENED,
    SMALL,
    assert_close,
    assert_states_close,
    real_batch,
    run,
)


def one_step(config, warm_up=0):
    """Step both backends once from the same state, ``warm_up`` steps into a run.

    Returns:
        The state before, the states after in JAX and in torch, the scalars of torch and of JAX.
    """
    torch_backend, jax_backend = pair.backend("torch", config), pair.backend("jax", config)
    state, _ = run(torch_backend, torch_backend.init(), 0, warm_up)
    before = torch_backend.export(state)
    other = jax_backend.restore(before)
    state, logged = run(torch_backend, state, warm_up, 1)
    other, also_logged = run(jax_backend, other, warm_up, 1)
    return before, jax_backend.export(other), torch_backend.export(state), logged[0], also_logged[0]


# Every loss that sees pairs, every penalty and augmentation, adaptation, other optimisers, classes, several updates, a
# reused latent, and images that networks are told of.
FAST = ("adaptive", "relativistic-conditional", "conditional-spectral-sigmoid", "pyramid-highest", "shared-two-updates")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fast) if name in FAST else name for name in CONFIGS]
)
def test_losses_penalties_gradients_and_every_updated_tensor(name):
    """From the initial state, and from one that ten steps have moved."""
    config = CONFIGS[name]
    for warm_up in (0, 10 if config.resolution < 256 else 1):  # a float64 step at 256 pixels takes seconds
        before, ours, theirs, logged, also_logged = one_step(config, warm_up)
        assert_states_close(ours, theirs, ONE_STEP, config)
        for key, value in logged.items():
            assert_close(also_logged[key], value, ONE_STEP, key)
    networks = [network for network in TRAINED if config.freeze != network]
    for network in networks:
        beta1 = getattr(config, f"{network}_beta1")
        averages = [k for k in theirs if k.startswith(f"optimizer/{network}.") and k.endswith((".exp_avg", "_buffer"))]
        assert averages
        for key in averages:
            # What the newest gradient has added to the average, on its own scale. It must be there: R3GAN's last
            # convolutions begin at zero, and what lies before them has no gradient until they have moved.
            added = theirs[key] - beta1 * before[key]
            assert np.abs(added).max() > 0 or key in without_gradient(config, theirs), f"{key}: no gradient"
            assert_close(ours[key] - beta1 * before[key], added, ONE_STEP, key)
    for network in set(TRAINED) - set(networks):
        for key in (k for k in before if k.startswith(f"{network}/") and "running" not in k and "num_" not in k):
            assert ours[key].tobytes() == theirs[key].tobytes() == before[key].tobytes(), key


def without_gradient(config, tensors):
    """Tensors that a loss does not depend on: a shift of all logits, under losses that see differences of logits.

    The hinge is one of them as long as every logit is within its margin.
    """
    shift = config.loss in ("wasserstein", "relativistic", "hinge")
    return [key for key in tensors if shift and key.endswith("discriminator.state.head.bias.exp_avg")]


@pytest.mark.parametrize("name", PRESET_CONFIGS)
def test_adversarial_images(name, monkeypatch):
    """Exact zeros, constant and saturated channels, half of an image empty: where subgradients and zero norms hide."""
    monkeypatch.setattr(pair, "real_batch", adversarial_batch)
    config = replace(CONFIGS[name], **SHORTENED.get(name, {}))
    _, ours, theirs, logged, also_logged = one_step(config, warm_up=2)
    assert_states_close(ours, theirs, ONE_STEP, config)
    for key, value in logged.items():
        assert_close(also_logged[key], value, ONE_STEP, key)


def adversarial_batch(config, step):
    batch = real_batch(config, step)
    images = batch.images.copy()
    images[:, 0] = 0
    images[:, -1, :, : config.resolution // 2] = 128  # half of the last one constant, just off zero in [-1, 1]
    if config.batch_size > 2:
        images[:, 1] = 255
        images[:, 2, ..., 0] = 0
    return batch._replace(images=images)


@pytest.mark.parametrize("name", ["wgan-gp", "r3gan-tiny", "adaptive"])
def test_penalty_where_the_gradient_is_zero(name):
    """A discriminator whose last layer is zero: every penalty is taken at a gradient of exactly zero."""
    config = CONFIGS[name]
    twins = [pair.backend(backend, config) for backend in BACKENDS]
    tensors = twins[0].export(twins[0].init())
    heads = [k for k in tensors if k.startswith("discriminator/head") and k.endswith("weight")]
    assert heads
    tensors |= {key: np.zeros_like(tensors[key]) for key in heads}
    states, logged = zip(*(run(twin, twin.restore(tensors), 0, 1) for twin in twins), strict=True)
    theirs, ours = (twin.export(state) for twin, state in zip(twins, states, strict=True))
    assert_states_close(ours, theirs, ONE_STEP, config)
    # (0 - 1)^2 in the gradient penalty, 0 in R1 and R2; known for the first discriminator update only.
    expected = knobs(config, 0).gamma if "gradient-penalty" in config.penalties else 0.0
    for line in (lines[0] for lines in logged):
        known = config.discriminator_updates == 1
        # 2e-6: the small number below the root.
        assert not known or abs(line["penalty"] - expected) <= 3e-6 * expected


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_jax_step_keeps_structure_shapes_and_types(precision):
    """Nothing drifts to another precision, and the state that comes out fits the step it came from."""
    twin = pair.backend("jax", replace(SMALL, precision=precision))
    begin = jax.tree.map(jnp.zeros_like, twin.init())
    state, _ = run(twin, twin.init(), 0, 1)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, begin)
    floating = {leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floating == {jnp.dtype(precision)}


@pytest.mark.parametrize("network", TRAINED)
def test_torch_takes_no_gradients_of_a_frozen_network(monkeypatch, network):
    """XLA leaves out by itself what nobody uses."""
    twin = pair.backend("torch", replace(SMALL, freeze=network))
    state, asked, take = twin.init(), [], torch.autograd.grad

    def record(outputs, inputs, *arguments, **options):
        asked.extend(inputs)
        return take(outputs, inputs, *arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", record)
    run(twin, state, 0, 1)
    (moving,) = set(TRAINED) - {network}
    assert {id(tensor) for tensor in asked} == {id(tensor) for tensor in getattr(state, moving).parameters()}


def test_one_image_per_batch():
    _, ours, theirs, *_ = one_step(replace(SMALL, batch_size=1))
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


@pytest.mark.fast
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


@pytest.mark.fast
@pytest.mark.parametrize("backend", BACKENDS)
def test_first_step_that_is_not_finite_is_remembered(backend):
    twin = pair.backend(backend, SMALL)
    state, logged = run(twin, twin.init(), 0, 2)
    assert logged[-1]["first_non_finite_step"] == 0
    tensors = twin.export(state)
    tensors["discriminator/head.weight"] = tensors["discriminator/head.weight"] * np.nan
    _, logged = run(twin, twin.restore(tensors), 2, 3)
    assert [line["first_non_finite_step"] for line in logged] == [3, 3, 3]


@pytest.mark.fast
def test_adaptive_probability_follows_the_sign_of_real_logits():
    """Up by a fixed length at every fourth step where the mean sign was above the target, else down, from 0 to 1."""
    config = replace(SMALL, augment=("flip",), augment_target=0.5, batch_size=8, augment_adapt_nimg=64)
    length = 4 * 8 / 64
    signs = [1.0, 1.0, 0.0, 0.25, *[0.0] * 4, *[-1.0] * 4, *[1.0] * 12]
    expected, probability = [], 0.0
    for first in range(0, len(signs), 4):
        expected += [probability] * 3  # nothing moves in between
        mean = sum(signs[first : first + 4]) / 4
        probability = min(1.0, max(0.0, probability + length * np.sign(mean - 0.5)))
        expected.append(probability)
    assert expected[3] == 0.5 and expected[7] == expected[11] == 0.0 and expected[-1] == 1.0
    for backend, package in (("torch", gan_torch.step), ("jax", gan_jax.step)):
        twin = pair.backend(backend, config)
        state, found = twin.init(), []
        for sign in signs:
            state = package.adapt_augment(config, state, state.augment_signs * 0 + sign)
            state = state._replace(step=state.step + 1)
            found.append(float(state.augment_probability))
        assert found == expected, backend
