"""Runs of 102 steps in both backends, and runs that change backend on the way (the braid)."""

from dataclasses import replace

import pytest

from parity_tests import pair
from parity_tests.pair import (
    CONFIGS,
    PRESET_CONFIGS,
    SHORTENED,
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
    """Play in one backend; return what it exports before the first step and after every strand, and its scalars."""
    backend = pair.backend(name, config)
    state = backend.init()
    exported, logged = [backend.export(state)], []
    for first in range(0, steps, STRAND):
        state, lines = run(backend, state, first, min(STRAND, steps - first))
        exported, logged = [*exported, backend.export(state)], logged + lines
    return exported, logged


def braid(tensors, logged, others, config):
    """Go on from the end of the first strand, handing the exported state to the next backend after every strand."""
    for i, name in enumerate(others, 1):
        backend = pair.backend(name, config)
        state, lines = run(backend, backend.restore(tensors), i * STRAND, STRAND)
        tensors, logged = backend.export(state), logged + lines
    return tensors, logged


def check(ours, logged, begin, theirs, expected):
    for name in (name for name in theirs if name.startswith("game/")):
        assert ours[name] == theirs[name], name
    for network, ratio in distances(ours, theirs, begin).items():
        bound = TRAJECTORY_MOMENTS if network.startswith("optimizer/") else TRAJECTORY
        assert ratio <= bound, f"{network}: {ratio:.3g} of the distance travelled"
    for step, (line, other) in enumerate(zip(logged, expected, strict=True)):
        for key in ("discriminator_loss", "generator_loss"):
            assert_close(line[key], other[key], TRAJECTORY, f"{key} at step {step}")


TRAJECTORIES = [*PRESET_CONFIGS, "sngan-conditional", "adaptive", "conditional-spectral-sigmoid"]


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory_and_braid(name):
    config = replace(CONFIGS[name], **SHORTENED.get(name, {}))
    (begin, after_one, *_, expected), lines = whole("torch", config)
    (*_, ours), logged = whole("jax", config)
    check(ours, logged, begin, expected, lines)
    # The first strand of a braid that torch begins is the first strand of torch's own run.
    check(*braid(after_one, lines[:STRAND], ("jax", "torch"), config), begin, expected, lines)


@pytest.mark.fast
def test_short_braid():
    """Two steps in JAX, two in torch, two in JAX, against six in torch."""
    config = CONFIGS["shared-two-updates"]
    twins = {name: pair.backend(name, config) for name in pair.BACKENDS}
    begin = twins["torch"].export(twins["torch"].init())
    state, _ = run(twins["torch"], twins["torch"].restore(begin), 0, 6)
    tensors, expected = begin, twins["torch"].export(state)
    for first, name in ((0, "jax"), (2, "torch"), (4, "jax")):
        state, _ = run(twins[name], twins[name].restore(tensors), first, 2)
        tensors = twins[name].export(state)
    assert max(distances(tensors, expected, begin).values()) <= TRAJECTORY
    assert all(tensors[name] == expected[name] for name in expected if name.startswith("game/"))


def test_braid_the_other_way():
    config = CONFIGS["mse-two-updates"]
    (begin, *_, expected), lines = whole("torch", config)
    (_, after_one), logged = whole("jax", config, STRAND)
    check(*braid(after_one, logged, ("torch", "jax"), config), begin, expected, lines)


def test_a_wrong_constant_shows():
    """The measure sees what a one-step test cannot: beta2 leaves the first update unchanged."""
    (begin, expected), _ = whole("torch", SMALL, steps=20)
    (_, other), _ = whole("torch", replace(SMALL, generator_beta2=0.9989, discriminator_beta2=0.9989), steps=20)
    assert min(distances(other, expected, begin).values()) > 1e4 * TRAJECTORY
