"""Traces of one step: the same names in both backends, and behind every name the same numbers."""

import numpy as np
import pytest
from torch import nn

import gan_torch.models
from gan_parity import locate, runs
from gan_parity.compare import ONE_STEP
from gan_parity.configurations import CONFIGS, SMALL
from gan_parity.difference import first_difference
from gan_parity.runs import BACKENDS, real_batch
from gan_shared.backend import StepValues
from gan_shared.draws import draw
from gan_shared.schedules import schedule_values
from parity_tests.pair import assert_close

# Every penalty, gradients of gradients, classes with spectral normalisation, a VGG16. JAX computes a traced step
# operation by operation, which takes half a minute of compiling for each.
TRACED = ("adaptive", "r3gan-tiny", "conditional-spectral-sigmoid", "vgg-inversion")


def traced(name, config):
    twin = runs.backend(name, config)
    return twin.trace(twin.init(), StepValues(real_batch(config, 0), draw(config, 0), schedule_values(config, 0)))


def containers(config):
    """Modules that only torch calls: what is no module in linen."""
    kinds = (nn.Identity, nn.Sequential)
    networks = {
        "generator": gan_torch.models.generator(config),
        "discriminator": gan_torch.models.discriminator(config),
    }
    return {
        (name, path)
        for name, network in networks.items()
        for path, each in network.named_modules()
        if type(each) in kinds
    }


def module(key):
    _, call, path = key.split("/", 2)
    return call.split(".")[0], path


@pytest.mark.parametrize("name", TRACED)
def test_every_value_of_a_step_has_one_name_and_is_the_same(name):
    config = CONFIGS[name]
    theirs, ours = locate.traces(config)
    assert set(ours) <= set(theirs)
    alone = {module(key) for key in set(theirs) - set(ours) if theirs[key].any()}  # a gradient of zeros may not come
    assert alone <= containers(config)
    kinds = {key.split("/")[0] for key in ours}
    assert kinds == {"input", "forward", "backward", "returned", "gradient", "update", "scalar", "state"}
    assert first_difference(theirs, ours) is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_trace_is_of_the_step_that_training_runs(backend):
    """Forwards, updates and the state after are those of the step; a trace leaves no hook behind."""
    twin = runs.backend(backend, SMALL)
    recorded = traced(backend, SMALL)
    state, (line,) = runs.run(twin, twin.init(), 0, 1)
    left = twin.export(state)
    for key, value in left.items():
        assert_close(recorded[f"state/{key}"], value, ONE_STEP, key, 1e-13)
    for key, value in line.items():
        assert_close(float(recorded[f"scalar/{key}"]), value, ONE_STEP, key)
    begin = twin.export(twin.init())
    for key in (key for key in recorded if key.startswith("update/discriminator.0/")):
        name = key.removeprefix("update/discriminator.0/")
        np.testing.assert_array_equal(recorded[key], left_after(recorded, name) - begin[f"discriminator/{name}"])
    # What one module makes is what the next one gets, and the gradients on the way back are one as well.
    for ahead, behind in (
        ("input/generator.0", "forward/generator.0"),
        ("returned/generator.1.0", "backward/generator.1.0"),
    ):
        np.testing.assert_array_equal(recorded[f"{ahead}/stem.norm"], recorded[f"{behind}/stem.conv"])
    # The generator makes fakes twice, as its latents are fresh; the discriminator is applied to reals, fakes, fakes.
    roots = [key for key in recorded if key.startswith("forward/") and key.endswith("/")]
    assert sorted(roots) == [f"forward/discriminator.{n}/" for n in range(3)] + [
        f"forward/generator.{n}/" for n in range(2)
    ]
    # The first fakes are for the discriminator's update: no gradient comes back to the generator.
    assert not [key for key in recorded if key.startswith("backward/generator.0.")]
    assert [key for key in recorded if key.startswith("backward/generator.1.0/")]


def left_after(recorded, name):
    return recorded[f"state/discriminator/{name}"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_under_a_penalty_each_discriminator_activation_has_two_gradients(backend):
    """One at the images, and one of the loss that the penalty is part of."""
    recorded = traced(backend, CONFIGS["adaptive"])
    head = "head"
    for call in ("discriminator.0", "discriminator.1"):
        assert {f"backward/{call}.0/{head}", f"backward/{call}.1/{head}"} <= set(recorded)
    assert f"backward/discriminator.3.1/{head}" not in recorded  # the generator's update has none
