"""Projection into a latent space by both backends, and generators of blends of classes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.projection
import gan_torch.projection
from gan_parity import runs
from gan_parity.configurations import CONFIGS
from gan_parity.runs import BACKENDS, run
from gan_shared.backend import Inputs
from gan_shared.draws import sample_latents
from gan_shared.families import FAMILIES
from gan_shared.image_conditions import is_image_conditional
from gan_shared.projection import learning_rate, longest
from parity_tests.network_pairs import BATCH, CLASSES, FILES, LATENT, WIDTHS, build, channels_last, fill, values
from parity_tests.pair import assert_close

STEPS = 20
# Latents alone; classes in the generator's input; classes in its batch normalisation; categorical latents. The latents
# may differ by so much of the largest: rounding, 3e-15 in 20 steps, with more than a digit to spare. The gradients of
# categorical latents nearly vanish where the softmax is saturated, and Adam, which divides a gradient by its own size,
# makes of their rounding 4e-12.
PROJECTED = {
    "dcgan": 1e-13,
    "relativistic-conditional": 1e-13,
    "sngan-conditional": 1e-13,
    "stacked-mnist-cpu": 1e-10,
}


@pytest.mark.parametrize("name", PROJECTED)
def test_latents_move_alike_in_both_backends(name):
    # A high rate: five steps of training leave the grey images of the start behind, on which all gradients vanish.
    config = CONFIGS[name].with_options(generator_learning_rate=0.02, ema_half_life_nimg=8.0)
    ours, theirs = (runs.backend(each, config) for each in BACKENDS)
    state, _ = run(ours, ours.init(), 0, 5)
    other = theirs.restore(ours.export(state))
    size = config.networks.latent_size
    labels = np.arange(4) % config.num_classes if config.num_classes else None
    target = ours.sample(state, Inputs(sample_latents(1, 1, size), None if labels is None else labels[1:2]))[0]
    # One latent is longer than any may be, from the first step on.
    start = sample_latents(0, 4, size) * np.array([1, 1, 1, 3], np.float32)[:, None]
    found = [
        each.projector(of, target, Inputs(start, labels))([learning_rate(step, STEPS) for step in range(STEPS)])
        for each, of in ((ours, state), (theirs, other))
    ]
    assert found[0].dtype == np.float64 and np.abs(found[0] - start).max() > 0.5
    assert_close(found[0], found[1], PROJECTED[name], "latents")
    # To a rounding of the division.
    assert (np.linalg.norm(found[0], axis=1) <= longest(size) * (1 + 1e-12)).all()


@pytest.mark.fast
def test_differences_are_mean_squares_and_long_latents_are_shortened():
    random = np.random.default_rng(0)
    images, target = random.normal(size=(3, 8, 8, 2)), random.normal(size=(1, 8, 8, 2))
    latents = random.normal(size=(3, 5)) * np.array([1e-3, 1, 9])[:, None]
    latents[0] = 0
    lengths = np.linalg.norm(latents, axis=1, keepdims=True)
    expected = np.square(images - target).mean((1, 2, 3)), np.where(lengths > 2, latents * 2 / lengths.clip(2), latents)
    assert (lengths > 2).any() and (lengths < 2).any()
    ours = (
        gan_torch.projection.difference(*(torch.from_numpy(x.transpose(0, 3, 1, 2)) for x in (images, target))),
        gan_torch.projection.shortened(torch.from_numpy(latents), 2.0),
    )
    theirs = (
        gan_jax.projection.difference(jnp.asarray(images), jnp.asarray(target)),
        gan_jax.projection.shortened(jnp.asarray(latents), 2.0),
    )
    for found in (*zip(ours, expected, strict=True), *zip(theirs, expected, strict=True)):
        np.testing.assert_allclose(*found, rtol=1e-14)  # a few roundings of float64


@pytest.mark.parametrize("family", [name for name in FILES if "generator" in FAMILIES[name].roles])
def test_blends_of_classes_are_equal_and_whole_ones_are_the_classes(family):
    twins = build("Generator", family, 32, 2, WIDTHS[family], num_classes=CLASSES)
    module, variables = fill(twins, values(twins))
    latents = np.random.default_rng(2).standard_normal((BATCH, LATENT))
    labels = np.array([0, 2, 2, 1])
    blends = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5], [0, 0, 1]])

    def made(given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            ours = channels_last(module.eval()(torch.from_numpy(latents), torch.from_numpy(given)))
        network = jax.jit(partial(twins.network.apply, train=False))
        return ours, np.asarray(network(variables, latents, labels=jnp.asarray(given)))

    whole = made(np.eye(CLASSES)[labels])
    for one_hot, integers in zip(whole, made(labels), strict=True):
        # A sum of one row and of zeros; what follows may be compiled to another order of sums.
        np.testing.assert_allclose(one_hot, integers, rtol=0, atol=1e-13)
    ours, theirs = made(blends)
    assert_close(ours, theirs, 1e-11, "images")
    assert np.abs(ours[1] - whole[0][1]).max() > 1e-3, "a blend that is a class would agree with anything"


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if config.data.class_conditional])
def test_both_backends_make_blends_for_every_class_conditional_family(name):
    config = CONFIGS[name].with_options(precision="float32")
    ours, theirs = (runs.backend(each, config) for each in BACKENDS)
    state = ours.init()
    tensors = ours.export(state)
    random = np.random.default_rng(0)
    for key, value in tensors.items():  # classes differ, and images are not grey
        if key.startswith("generator_ema/") and key.endswith(("weight", "bias")):
            value += 0.3 * random.standard_normal(value.shape).astype(value.dtype)
    state, other = ours.restore(tensors), theirs.restore(tensors)
    size = config.data_resolution
    images = random.integers(0, 256, (4, size, size, config.image_shape[2]), np.uint8)
    labels = np.arange(4) % config.num_classes
    given = images if is_image_conditional(config) else None
    inputs = Inputs(sample_latents(0, 4, config.networks.latent_size), labels, given)
    weights = np.eye(config.num_classes, dtype=np.float32)
    half = (weights[labels] + weights[(labels + 1) % config.num_classes]) / 2
    blends, whole = list[np.ndarray](), list[np.ndarray]()
    for each, of in ((ours, state), (theirs, other)):
        whole.append(each.sample(of, inputs._replace(labels=weights[labels])).astype(int))
        blends.append(each.sample(of, inputs._replace(labels=half)).astype(int))
        assert np.abs(whole[-1] - each.sample(of, inputs)).max() <= 1
    assert np.abs(blends[0] - blends[1]).max() <= 1  # one grey level between the frameworks' float32
    assert np.abs(blends[0] - whole[0]).max() > 1
