"""Runs of 102 steps in both backends, and runs that change backend on the way (the braid)."""

from dataclasses import replace

import pytest

from parity_tests import pair
from parity_tests.pair import (
    CONFIGS,
    PRESET_CONFIGS,
    SMALL,
    TRAJECTORY,
    TRAJECTORY_MOMENTS,
    assert_close,
    distances,
    run,
)

STRAND = 34
STEPS = 3 * STRAND


def whole(name, config, steps=STEPS):
    backend = pair.backend(name, config)
    begin = backend.init()
    first = backend.export(begin)
    state, logged = run(backend, begin, 0, steps)
    return first, backend.export(state), logged


def strand(name, config, tensors, i):
    """Take strand ``i`` of a braid from exported tensors, and export again."""
    backend = pair.backend(name, config)
    state, logged = run(backend, backend.restore(tensors), i * STRAND, STRAND)
    return backend.export(state), logged


def braid(order, config):
    """Hand the exported state from one backend to the next after every strand."""
    _, tensors, logged = whole(order[0], config, STRAND)
    for i, name in enumerate(order[1:], 1):
        tensors, lines = strand(name, config, tensors, i)
        logged = logged + lines
    return tensors, logged


def check(ours, logged, begin, theirs, expected):
    for network, ratio in distances(ours, theirs, begin).items():
        bound = TRAJECTORY_MOMENTS if network.startswith("optimizer/") else TRAJECTORY
        assert ratio <= bound, f"{network}: {ratio:.3g} of the distance travelled"
    for step, (line, other) in enumerate(zip(logged, expected, strict=True)):
        for key in ("discriminator_loss", "generator_loss"):
            assert_close(line[key], other[key], TRAJECTORY, f"{key} at step {step}")


# At 256 pixels a step takes seconds in float64; one such step is in test_step.py. At 64 it would be r3gan-ffhq-64's.
SHORTENED = {"r3gan-ffhq-256": {"resolution": 32}}
TRAJECTORIES = [*PRESET_CONFIGS, "sngan-conditional", "adaptive", "conditional-spectral-sigmoid"]


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory_and_braid(name):
    config = replace(CONFIGS[name], **SHORTENED.get(name, {}))
    begin, expected, lines = whole("torch", config)
    _, ours, logged = whole("jax", config)
    check(ours, logged, begin, expected, lines)
    tensors, logged = braid(("torch", "jax", "torch"), config)
    check(tensors, logged, begin, expected, lines)


def test_braid_the_other_way():
    config = CONFIGS["mse-two-updates"]
    begin, expected, lines = whole("torch", config)
    tensors, logged = braid(("jax", "torch", "jax"), config)
    check(tensors, logged, begin, expected, lines)


def test_a_wrong_constant_shows():
    """The measure sees what a one-step test cannot: beta2 leaves the first update unchanged."""
    begin, expected, _ = whole("torch", SMALL, steps=20)
    _, other, _ = whole("torch", replace(SMALL, generator_beta2=0.9989, discriminator_beta2=0.9989), steps=20)
    assert min(distances(other, expected, begin).values()) > 1e4 * TRAJECTORY
