"""Networks of both backends: initial weights, forward passes, published sizes, forwards per step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import gan_jax.models
import gan_torch.models
from gan_shared.backend import Inputs
from gan_shared.config import DEVICES, NETWORKS, PRECISIONS
from gan_shared.draws import draw, sample_latents
from gan_shared.presets import PRESETS
from parity_tests import pair
from parity_tests.pair import BACKENDS, CONFIGS, SMALL, assert_close, real_batch, run


def test_tables_hold_the_same_names():
    for backend in (gan_torch.models, gan_jax.models):
        assert tuple(backend.GENERATORS) == tuple(backend.DISCRIMINATORS) == NETWORKS
    assert PRECISIONS == ("float32", "float64") and DEVICES == ("auto", "cpu", "gpu")


@pytest.mark.parametrize("name", CONFIGS)
def test_initial_state_is_bit_identical(name):
    states = [pair.backend(backend, CONFIGS[name]) for backend in BACKENDS]
    ours, theirs = (backend.export(backend.init()) for backend in states)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key].dtype == theirs[key].dtype and ours[key].tobytes() == theirs[key].tobytes(), key


def test_initial_weights_follow_the_declared_distributions():
    backend = pair.backend("torch", PRESETS["dcgan-64"])
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


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_images_in_training_and_evaluation(name):
    """Per image, not their means; from states that training has moved."""
    config = CONFIGS[name]
    torch_backend, jax_backend = pair.backend("torch", config), pair.backend("jax", config)
    state, _ = run(torch_backend, torch_backend.init(), 0, 3)
    other = jax_backend.restore(torch_backend.export(state))
    images = real_batch(config, 7).images[0] / 127.5 - 1
    latents = draw(config, 7).latents[0].astype(np.float64)
    pairs = (
        (state.generator, gan_jax.models.generator(config), other.generator, latents),
        (state.discriminator, gan_jax.models.discriminator(config), other.discriminator, images),
    )
    for module, network, variables, x in pairs:
        given = torch.tensor(x if x.ndim == 2 else x.transpose(0, 3, 1, 2))
        for train in (False, True):
            with torch.no_grad():
                expected = module.train(train)(given).numpy()
            found = network.apply(variables, x, train=train, mutable=["batch_stats"])[0]
            expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
            assert_close(found, expected, 1e-11, f"{type(module).__name__} train={train}")


@pytest.mark.parametrize("ema", [True, False])
def test_float32_samples_agree_within_one_grey_level(ema):
    # A high rate and a short memory: five steps leave the grey start far behind.
    config = replace(SMALL, precision="float32", generator_learning_rate=0.02, ema_half_life_nimg=8.0)
    torch_backend, jax_backend = pair.backend("torch", config), pair.backend("jax", config)
    state, _ = run(torch_backend, torch_backend.init(), 0, 5)
    other = jax_backend.restore(torch_backend.export(state))
    inputs = Inputs(sample_latents(3, 64, config.latent_size))
    ours, theirs = torch_backend.sample(state, inputs, ema), jax_backend.sample(other, inputs, ema)
    assert ours.dtype == theirs.dtype == np.uint8 and ours.shape == theirs.shape == (64, 32, 32, 1)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert ours.std() > 1, "a flat image would agree with anything"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_forwards_per_step(backend, name):
    """Batch statistics advance once per training forward: the contract of step.py."""
    config = CONFIGS[name]
    updates = config.discriminator_updates
    twin = pair.backend(backend, config)
    state, _ = run(twin, twin.init(), 0, 2)
    tensors = twin.export(state)
    generator_forwards = updates + 1 if config.fresh_latents else updates
    assert tensors["generator/stem.norm.num_batches_tracked"] == 2 * generator_forwards
    assert tensors["generator_ema/stem.norm.num_batches_tracked"] == 2 * generator_forwards
    assert tensors["discriminator/stages.0.norm.num_batches_tracked"] == 2 * (2 * updates + 1)
