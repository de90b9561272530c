"""One step of both backends, every tensor, in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen
from torch import nn

import gan_jax.backend
import gan_jax.models
import gan_jax.step
import gan_torch.backend
import gan_torch.models
import gan_torch.step
from gan_parity import runs
from gan_parity.compare import ONE_STEP
from gan_parity.configurations import CONFIGS, PRESET_CONFIGS, SMALL
from gan_parity.runs import BACKENDS, real_batch, run
from gan_shared.manifest import TRAINED
from gan_shared.option_groups import CUSTOM
from gan_shared.schedules import schedule_values
from parity_tests.pair import assert_close, assert_states_close


def one_step(config, warm_up=0):
    """Step both backends once from the same state, ``warm_up`` steps into a run.

    Returns:
        The state before, the states after in JAX and in torch, the scalars of torch and of JAX.
    """
    torch_backend, jax_backend = runs.backend("torch", config), runs.backend("jax", config)
    state, _ = run(torch_backend, torch_backend.init(), 0, warm_up)
    before = torch_backend.export(state)
    other = jax_backend.restore(before)
    state, logged = run(torch_backend, state, warm_up, 1)
    other, also_logged = run(jax_backend, other, warm_up, 1)
    return before, jax_backend.export(other), torch_backend.export(state), logged[0], also_logged[0]


def equal_step(config, warm_up):
    """Step both backends once, assert that it was the same step, and return the states before, in JAX and in torch."""
    before, ours, theirs, logged, also_logged = one_step(config, warm_up)
    assert_states_close(ours, theirs, ONE_STEP, config)
    for key, value in logged.items():
        assert_close(also_logged[key], value, ONE_STEP, key)
    return before, ours, theirs


# Every paired loss, every penalty and augmentation, adaptation, other optimisers, classes, several updates, a
# reused latent, image conditions, and several logits for each image.
FAST = (
    "adaptive",
    "relativistic-conditional",
    "conditional-spectral-sigmoid",
    "lapgan-highest",
    "shared-two-updates",
    "patch",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fast) if name in FAST else name for name in CONFIGS]
)
def test_losses_penalties_gradients_and_every_updated_tensor(name):
    """From the initial state, and from one that ten steps have moved."""
    config = CONFIGS[name]
    quick = config.data.resolution < 256  # a float64 step at 256 pixels takes seconds
    if quick:
        equal_step(config, warm_up=0)
    before, ours, theirs = equal_step(config, warm_up=10 if quick else 1)
    networks = [network for network in TRAINED if config.objective.freeze != network]
    for network in networks:
        chosen = config.optimizer(network)
        (beta1,) = (value for name, value in chosen.constants().items() if name in ("beta1", "momentum"))
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
    """Tensors that a loss does not depend on: a shift of all logits, under losses of differences of logits.

    The hinge is one of them as long as every logit is within its margin.
    """
    shift = config.objective.loss in ("wasserstein", "relativistic", "hinge")
    return [key for key in tensors if shift and key.endswith("discriminator.state.head.bias.exp_avg")]


# At 256 pixels a step takes seconds, and at fewer r3gan-ffhq-256 has the networks of another preset.
@pytest.mark.parametrize("name", [name for name in PRESET_CONFIGS if name != "r3gan-ffhq-256"])
def test_one_step_on_images_with_ties_and_zero_norms_is_equal(name, monkeypatch):
    """Exact zeros, constant and saturated channels, half of an image empty: ties of subgradients, norms of zero."""
    monkeypatch.setattr(runs, "real_batch", adversarial_batch)
    config = CONFIGS[name]
    _, ours, theirs, logged, also_logged = one_step(config, warm_up=2)
    assert_states_close(ours, theirs, ONE_STEP, config)
    for key, value in logged.items():
        assert_close(also_logged[key], value, ONE_STEP, key)


def adversarial_batch(config, step):
    batch = real_batch(config, step)
    images = batch.images.copy()
    images[:, 0] = 0
    images[:, -1, :, : config.data.resolution // 2] = 128  # half of the last one constant, just off zero in [-1, 1]
    if config.training.batch_size > 2:
        images[:, 1] = 255
        images[:, 2, ..., 0] = 0
    return batch._replace(images=images)


@pytest.mark.parametrize("name", ["wgan-gp", "r3gan-tiny", "adaptive"])
def test_penalties_at_a_gradient_of_zero_are_finite_and_equal(name):
    """A discriminator whose last layer is zero: every penalty is taken at a gradient of exactly zero."""
    config = CONFIGS[name]
    twins = [runs.backend(backend, config) for backend in BACKENDS]
    tensors = twins[0].export(twins[0].init())
    heads = [k for k in tensors if k.startswith("discriminator/head") and k.endswith("weight")]
    assert heads
    tensors |= {key: np.zeros_like(tensors[key]) for key in heads}
    states, logged = zip(*(run(twin, twin.restore(tensors), 0, 1) for twin in twins), strict=True)
    theirs, ours = (twin.export(state) for twin, state in zip(twins, states, strict=True))
    assert_states_close(ours, theirs, ONE_STEP, config)
    # (0 - 1)^2 in the gradient penalty, 0 in R1 and R2; known for the first discriminator update only.
    expected = schedule_values(config, 0).gamma if "gradient-penalty" in config.objective.penalties else 0.0
    for line in (lines[0] for lines in logged):
        known = config.objective.discriminator_updates == 1
        # 2e-6: the small number below the root.
        assert not known or abs(line["penalty"] - expected) <= 3e-6 * expected


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_jax_step_keeps_structure_shapes_and_types(precision):
    """Nothing drifts to another precision, and the state that comes out fits the step it came from."""
    twin = runs.backend("jax", SMALL.with_options(precision=precision))
    begin = jax.tree.map(jnp.zeros_like, twin.init())
    state, _ = run(twin, twin.init(), 0, 1)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, begin)
    floating = {leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floating == {jnp.dtype(precision)}


@pytest.mark.parametrize("network", TRAINED)
def test_torch_takes_no_gradients_of_a_frozen_network(monkeypatch, network):
    """XLA leaves out by itself what is not used."""
    twin = runs.backend("torch", SMALL.with_options(freeze=network))
    state, asked, take = twin.init(), [], torch.autograd.grad

    def record(outputs, inputs, *arguments, **options):
        asked.extend(inputs)
        return take(outputs, inputs, *arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", record)
    run(twin, state, 0, 1)
    (moving,) = set(TRAINED) - {network}
    assert {id(tensor) for tensor in asked} == {id(tensor) for tensor in getattr(state, moving).parameters()}


@pytest.mark.fast
@pytest.mark.parametrize("backend", BACKENDS)
def test_penalties_are_those_of_every_kth_step_with_k_times_the_weight(backend):
    """At step 2 those of a run whose every step has them, at three times the weight; before it none."""
    every = SMALL.with_options(loss="relativistic", penalties=("r1", "r2"), gamma=2.0, discriminator_norm="none")
    lazy = runs.backend(backend, every.with_options(penalty_every=3))
    heavy = runs.backend(backend, every.with_options(gamma=6.0))
    none = runs.backend(backend, every.with_options(penalties=(), gamma=0.0))
    state = lazy.init()
    for step, other in enumerate((none, none, heavy, none)):
        before = lazy.export(state)
        expected, wanted = run(other, other.restore(before), step, 1)
        state, logged = run(lazy, state, step, 1)
        assert_states_close(lazy.export(state), other.export(expected), ONE_STEP, every)
        assert logged == wanted and (logged[0]["penalty"] > 0) is (other is heavy)


def test_one_step_with_one_image_per_batch_is_equal():
    _, ours, theirs, *_ = one_step(SMALL.with_options(batch_size=1))
    assert_states_close(ours, theirs, ONE_STEP)


def test_one_step_with_saturated_logits_is_finite_and_equal():
    """Discriminator weights large enough for logits of hundreds: losses stay finite and equal."""
    torch_backend, jax_backend = runs.backend("torch", SMALL), runs.backend("jax", SMALL)
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
        twin = runs.backend(backend, SMALL.with_options(ema_half_life_nimg=half_life))
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
    twin = runs.backend(backend, SMALL)
    state, logged = run(twin, twin.init(), 0, 2)
    assert logged[-1]["first_non_finite_step"] == 0
    tensors = twin.export(state)
    tensors["discriminator/head.weight"] = tensors["discriminator/head.weight"] * np.nan
    _, logged = run(twin, twin.restore(tensors), 2, 3)
    assert [line["first_non_finite_step"] for line in logged] == [3, 3, 3]


@pytest.mark.fast
def test_adaptive_probability_follows_the_sign_of_real_logits():
    """Up by a fixed length at every fourth step where the mean sign was above the target, else down, from 0 to 1."""
    config = SMALL.with_options(augment=("flip",), augment_target=0.5, batch_size=8, augment_adapt_nimg=64)
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
        twin = runs.backend(backend, config)
        state, found = twin.init(), []
        for sign in signs:
            state = package.adapt_augment(config, state, state.augment_signs * 0 + sign)
            state = state._replace(step=state.step + 1)
            found.append(float(state.augment_probability))
        assert found == expected, backend


class TorchPatches(nn.Module):
    """A discriminator with a map of logits for each image (batch, 1, height, width), or with one logit."""

    def __init__(self, copies: tuple[int, ...] | None = None):
        super().__init__()
        self.conv, self.copies = nn.Conv2d(1, 1, 5, 2, 2), copies

    def forward(self, images):
        logits = self.conv(images).tanh() * 3
        if self.copies is None:
            return logits
        return logits.mean((1, 2, 3)).view(-1, *(1 for _ in self.copies)).expand(-1, *self.copies)


class JaxPatches(linen.Module):
    """The same in JAX."""

    copies: tuple[int, ...] | None = None

    @linen.compact
    def __call__(self, images):
        logits = jnp.tanh(linen.Conv(1, (5, 5), 2, 2, name="conv", param_dtype=jnp.float64)(images)) * 3
        if self.copies is None:
            return logits
        means = logits.mean((1, 2, 3)).reshape(-1, *(1 for _ in self.copies))
        return jnp.broadcast_to(means, (len(images), *self.copies))


PATCHES = SMALL.with_options(
    discriminator=CUSTOM,
    discriminator_norm=None,
    resolution=16,
    loss="relativistic",
    penalties=("gradient-penalty", "r1", "r2"),
    gamma=1.0,
    augment=("flip", "contrast"),
    augment_probability=0.5,
    augment_target=0.1,
)


def step_with_patches(copies=None):
    """One step with that discriminator in both backends from one state: the states after, and the scalars."""
    torch.manual_seed(0)
    first, second = (
        gan_torch.backend.Backend(
            PATCHES, gan_torch.models.Networks(gan_torch.models.generator(PATCHES), TorchPatches(copies))
        ),
        gan_jax.backend.Backend(
            PATCHES, gan_jax.models.Networks(gan_jax.models.generator(PATCHES), JaxPatches(copies))
        ),
    )
    begin = first.export(first.init())
    ends = [run(twin, twin.restore(begin), 0, 1) for twin in (first, second)]
    return [twin.export(state) for twin, (state, _) in zip((first, second), ends, strict=True)], [
        lines[0] for _, lines in ends
    ]


def test_one_step_with_a_map_of_logits_for_each_image_is_equal():
    """As of a PatchGAN: losses and signs are means over all logits, in both backends."""
    (theirs, ours), (logged, also_logged) = step_with_patches()
    assert_states_close(ours, theirs, ONE_STEP, PATCHES)
    for key, value in logged.items():
        assert_close(also_logged[key], value, ONE_STEP, key)
    assert logged["penalty"] > 0


@pytest.mark.fast
@pytest.mark.parametrize("copies", [(1,), (4,), (2, 3, 1)], ids=str)
def test_copies_of_a_logit_change_nothing(copies):
    """Penalties are on the gradient of each image's mean logit: with the sum they would grow with the copies."""
    one, many = step_with_patches(()), step_with_patches(copies)
    for theirs, ours in zip(one[0], many[0], strict=True):
        assert_states_close(ours, theirs, ONE_STEP, PATCHES)
    for logged, also_logged in zip(one[1], many[1], strict=True):
        for key, value in logged.items():
            assert_close(also_logged[key], value, ONE_STEP, key)
