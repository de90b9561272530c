"""Runs of 102 steps in both backends, and alternating runs, which change backend on the way."""

import pytest

from gan_parity import runs
from gan_parity.compare import TRAJECTORY, TRAJECTORY_OPTIMIZER_STATE, distances
from gan_parity.configurations import CONFIGS, PRESET_CONFIGS, SMALL
from gan_parity.runs import run
from parity_tests.pair import assert_close

PART = 34
STEPS = 3 * PART


def whole(name, config, steps=STEPS):
    """Run in one backend; return what it exports before the first step and after every part, and its scalars."""
    backend = runs.backend(name, config)
    state = backend.init()
    exported, logged = [backend.export(state)], []
    for first in range(0, steps, PART):
        state, lines = run(backend, state, first, min(PART, steps - first))
        exported, logged = [*exported, backend.export(state)], logged + lines
    return exported, logged


def alternating(tensors, logged, others, config):
    """Go on from the end of the first part, handing the exported state to the next backend after every part."""
    for i, name in enumerate(others, 1):
        backend = runs.backend(name, config)
        state, lines = run(backend, backend.restore(tensors), i * PART, PART)
        tensors, logged = backend.export(state), logged + lines
    return tensors, logged


def check(ours, logged, begin, theirs, expected):
    for name in (name for name in theirs if name.startswith("trainer/")):
        assert ours[name] == theirs[name], name
    for network, ratio in distances(ours, theirs, begin).items():
        bound = TRAJECTORY_OPTIMIZER_STATE if network.startswith("optimizer/") else TRAJECTORY
        assert ratio <= bound, f"{network}: {ratio:.3g} of the distance travelled"
    for step, (line, other) in enumerate(zip(logged, expected, strict=True)):
        for key in ("discriminator_loss", "generator_loss"):
            assert_close(line[key], other[key], TRAJECTORY, f"{key} at step {step}")


# At the size that is quick enough, these have the networks of r3gan-cifar10: test_step.py has steps of them at a larger
# one, and the report (docs/parity.md) runs.
LARGER = {"r3gan-ffhq-64", "r3gan-ffhq-256"}
TRAJECTORIES = [name for name in PRESET_CONFIGS if name not in LARGER]
TRAJECTORIES += ["sngan-conditional", "adaptive", "conditional-spectral-sigmoid"]


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_a_run_and_an_alternating_run_end_where_torch_ends(name):
    config = CONFIGS[name]
    (begin, after_one, *_, expected), lines = whole("torch", config)
    (*_, ours), logged = whole("jax", config)
    check(ours, logged, begin, expected, lines)
    # The first part of an alternating run that torch begins is the first part of torch's own run.
    check(*alternating(after_one, lines[:PART], ("jax", "torch"), config), begin, expected, lines)


@pytest.mark.fast
def test_a_short_alternating_run_ends_where_torch_ends():
    """Two steps in JAX, two in torch, two in JAX, against six in torch."""
    config = CONFIGS["shared-two-updates"]
    twins = {name: runs.backend(name, config) for name in runs.BACKENDS}
    begin = twins["torch"].export(twins["torch"].init())
    state, _ = run(twins["torch"], twins["torch"].restore(begin), 0, 6)
    tensors, expected = begin, twins["torch"].export(state)
    for first, name in ((0, "jax"), (2, "torch"), (4, "jax")):
        state, _ = run(twins[name], twins[name].restore(tensors), first, 2)
        tensors = twins[name].export(state)
    assert max(distances(tensors, expected, begin).values()) <= TRAJECTORY
    assert all(tensors[name] == expected[name] for name in expected if name.startswith("trainer/"))


def test_an_alternating_run_that_jax_begins_ends_where_torch_ends():
    config = CONFIGS["mse-two-updates"]
    (begin, *_, expected), lines = whole("torch", config)
    (_, after_one), logged = whole("jax", config, PART)
    check(*alternating(after_one, logged, ("torch", "jax"), config), begin, expected, lines)


def test_the_measure_detects_a_wrong_constant():
    """The distance of runs shows what one step cannot: beta2 leaves the first update unchanged."""
    (begin, expected), _ = whole("torch", SMALL, steps=20)
    (_, other), _ = whole("torch", SMALL.with_options(generator_beta2=0.9989, discriminator_beta2=0.9989), steps=20)
    assert min(distances(other, expected, begin).values()) > 1e4 * TRAJECTORY
