"""Networks of both backends: initial weights, forward passes, published sizes, forwards per step."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.examples
import gan_jax.layers
import gan_jax.models
import gan_jax.optimizers
import gan_torch.backend
import gan_torch.examples
import gan_torch.layers
import gan_torch.models
import gan_torch.optimizers
import gan_torch.step
from gan_parity import runs
from gan_parity.configurations import CONFIGS, PRESET_CONFIGS, SMALL
from gan_parity.runs import BACKENDS, run
from gan_shared.backend import Inputs
from gan_shared.config import options
from gan_shared.draws import sample_latents
from gan_shared.families import FAMILIES
from gan_shared.presets import PRESETS


def test_tables_hold_the_same_names():
    for backend in (gan_torch.models, gan_jax.models):
        assert tuple(backend.CONSTRUCTORS) == tuple(FAMILIES)
        for name, constructors in backend.CONSTRUCTORS.items():
            roles = [role for role, constructor in constructors._asdict().items() if constructor is not None]
            assert roles == list(FAMILIES[name].roles)
            assert FAMILIES[name].norms == () or FAMILIES[name].default_norm in FAMILIES[name].norms
    for layers in (gan_torch.layers, gan_jax.layers):
        assert tuple(layers.ACTIVATIONS) == options()["generator_activation"].choices
        assert tuple(layers.OUTPUTS) == options()["output_activation"].choices
    for rules in (gan_torch.optimizers, gan_jax.optimizers):
        assert tuple(rules.OPTIMIZERS) == options()["generator_optimizer"].choices


@pytest.mark.parametrize("name", CONFIGS)
def test_initial_state_is_bit_identical(name):
    states = [runs.backend(backend, CONFIGS[name]) for backend in BACKENDS]
    ours, theirs = (backend.export(backend.init()) for backend in states)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key].dtype == theirs[key].dtype and ours[key].tobytes() == theirs[key].tobytes(), key


def test_initial_weights_follow_the_declared_distributions():
    backend = runs.backend("torch", PRESETS["dcgan-64"])
    tensors = backend.export(backend.init())
    kernel = tensors["generator/stages.0.conv.weight"].astype(np.float64)
    # Standard errors of mean and deviation for n values: 1 / sqrt(n) and 1 / sqrt(2n) of the deviation; five of each.
    assert abs(kernel.mean()) < 5 * 0.02 / kernel.size**0.5
    assert abs(kernel.std() / 0.02 - 1) < 5 / (2 * kernel.size) ** 0.5
    scale = tensors["generator/stem.norm.weight"].astype(np.float64)
    assert abs(scale.mean() - 1) < 5 * 0.02 / scale.size**0.5
    assert (tensors["generator/stem.norm.bias"] == 0).all()
    assert (tensors["generator/stem.norm.running_var"] == 1).all()


def test_dcgan_64_has_the_published_parameter_counts():
    config = PRESETS["dcgan-64"]
    counts = [
        sum(p.numel() for p in build(config).parameters())
        for build in (gan_torch.models.generator, gan_torch.models.discriminator)
    ]
    # The PyTorch project's DCGAN example: 4x4 kernels over 100-512-256-128-64-3 channels and back to 1, without
    # biases, plus two values per normalised channel.
    generator = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 2 * (512 + 256 + 128 + 64)
    discriminator = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 2 * (128 + 256 + 512)
    assert counts == [generator, discriminator] == [3_576_704, 2_765_568]


@pytest.mark.fast
@pytest.mark.parametrize("ema", [True, False])
def test_float32_samples_agree_within_one_grey_level(ema):
    # A high rate and a short memory: five steps leave the grey start far behind.
    config = SMALL.with_options(precision="float32", generator_learning_rate=0.02, ema_half_life_nimg=8.0)
    torch_backend, jax_backend = runs.backend("torch", config), runs.backend("jax", config)
    state, _ = run(torch_backend, torch_backend.init(), 0, 5)
    other = jax_backend.restore(torch_backend.export(state))
    inputs = Inputs(sample_latents(3, 64, config.networks.latent_size))
    ours, theirs = torch_backend.sample(state, inputs, ema), jax_backend.sample(other, inputs, ema)
    assert ours.dtype == theirs.dtype == np.uint8 and ours.shape == theirs.shape == (64, 32, 32, 1)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert ours.std() > 1, "a flat image would agree with anything"


@pytest.mark.fast
def test_images_become_bytes_by_the_nearest_number_ties_to_even():
    """From -1 to 1, and from 0 to 1 where the generator ends in a sigmoid; beyond is clipped."""
    bytes_wanted = np.array([0, 0, 1, 2, 2, 100, 101, 128, 255], np.uint8)
    for output, low in (("tanh", -1.0), ("sigmoid", 0.0)):
        config = SMALL.with_options(output_activation=output)
        levels = np.array([-3.0, 0.4, 0.6, 1.6, 2.4, 100.4, 100.6, 127.5, 300.0])
        images = (levels / 255 * (1 - low) + low).reshape(1, 3, 3, 1)
        found = gan_torch.examples.to_uint8(config, torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
        np.testing.assert_array_equal(found.ravel(), bytes_wanted)
        np.testing.assert_array_equal(np.asarray(gan_jax.examples.to_uint8(config, jnp.asarray(images))), found)


@pytest.mark.fast
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_exported_is_a_copy_of_its_own(backend):
    twin = runs.backend(backend, SMALL)
    state = twin.init()
    first, second = twin.export(state), twin.export(state)
    for name, value in first.items():
        value += 1  # a view of the device's memory cannot be written, or changes the state
        assert (value == second[name] + 1).all(), name
    third = twin.export(state)
    assert all(np.array_equal(second[name], third[name]) for name in second)


@pytest.mark.parametrize(
    "name", ["dcgan", "mse-two-updates", "shared-two-updates", "relativistic-conditional", "adaptive"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_statistics_advance_once_per_training_forward(backend, name):
    """Batch statistics advance once per training forward: the contract of step.py."""
    config = CONFIGS[name]
    updates = config.objective.discriminator_updates
    twin = runs.backend(backend, config)
    state, _ = run(twin, twin.init(), 0, 2)
    tensors = twin.export(state)
    generator_forwards = updates + 1 if config.objective.fresh_latents else updates
    per_update = 3 if "gradient-penalty" in config.objective.penalties else 2
    in_generator_update = 2 if config.objective.loss == "relativistic" else 1
    assert tensors["generator/stem.norm.num_batches_tracked"] == 2 * generator_forwards
    assert tensors["generator_ema/stem.norm.num_batches_tracked"] == 2 * generator_forwards
    found = tensors["discriminator/stages.0.norm.num_batches_tracked"]
    assert found == 2 * (per_update * updates + in_generator_update)


@pytest.mark.parametrize("name", PRESET_CONFIGS)
def test_every_tensor_of_our_networks_is_declared(name):
    """An undeclared one would begin with whatever the memory held."""
    for module in filter(None, gan_torch.backend.build_networks(CONFIGS[name])):
        declared = {
            f"{path}.{key}" if path else key
            for path, layer in module.named_modules()
            for key in getattr(layer, "declared", {})
        }
        assert declared == module.state_dict().keys()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_computes_the_networks_and_nothing_else(backend):
    """Weights, optimizer state and averages stay float32; one step moves them as in float32, to two digits."""
    config = SMALL.with_options(precision="float32", generator_optimizer="sgd", discriminator_optimizer="sgd")
    exact, coarse = runs.backend(backend, config), runs.backend(backend, config.with_options(precision="bfloat16"))
    begin = exact.export(exact.init())
    states = [twin.export(run(twin, twin.init(), 0, 1)[0]) for twin in (exact, coarse)]
    assert {value.dtype for value in states[1].values()} == {np.dtype("float32"), np.dtype("int64")}
    for network in ("generator", "discriminator"):
        names = [k for k in begin if k.startswith(f"{network}/") and k.endswith("weight")]
        moved, expected = (np.concatenate([(s[k] - begin[k]).ravel() for k in names]) for s in reversed(states))
        apart = np.linalg.norm(moved - expected) / np.linalg.norm(expected)
        # bfloat16 rounds by 2^-9 = 0.2 %: the generator's gradient passes some thirty roundings and the batch
        # normalisation of eight images in both networks. A part that were left out would be a difference of 1.
        assert 1e-4 < apart < 0.25, network
