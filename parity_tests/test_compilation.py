"""The compiled step is the step: the graph that torch.compile is given, and what it makes of it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gan_shared.backend import StepValues
from gan_shared.config import CUSTOM, Config
from gan_shared.draws import draw
from gan_shared.schedules import knobs
from gan_torch.backend import Backend
from gan_torch.compilation import trace
from gan_torch.models import Networks
from parity_tests import pair
from parity_tests.pair import CONFIGS, PRESET_CONFIGS, SHORTENED, assert_states_close, real_batch

# And what no preset has: classes with spectral normalisation and decoupled weight decay, adaptive augmentation.
GRAPHS = [*PRESET_CONFIGS, "sngan-conditional", "adaptive", "vgg16-grey"]
# Sums in another order.
TOLERANCE = 1e-11


def values(config, step):
    return StepValues(real_batch(config, step), draw(config, step), knobs(config, step))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fast) if name == "dcgan" else name for name in GRAPHS]
)
def test_the_graph_is_the_step(name):
    backend = pair.backend("torch", replace(CONFIGS[name], **SHORTENED.get(name, {})))
    config, state = backend.config, backend.init()
    eager, expected = backend.steps(backend.init(), [values(config, 0)])
    inputs = backend._inputs(values(config, 0))
    before = backend.export(state)
    graph = trace(backend._step, state, inputs)
    assert all((value == before[key]).all() for key, value in backend.export(state).items())
    compiled = pair.backend("torch", replace(config, compile=True))
    compiled._step._compiled = graph  # as it is, without torch.compile, which takes half a minute
    state, scalars = compiled.steps(state, [values(config, 0)])
    assert_states_close(backend.export(state), backend.export(eager), TOLERANCE, config)
    for key, value in expected.items():
        assert abs(float(scalars[key]) - float(value)) <= TOLERANCE * max(1.0, abs(float(value))), key


class Painter(nn.Module):
    """Generator of one matrix, as what is compiled here costs time for every operation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 256)

    def forward(self, latents):
        return self.linear(latents).tanh().unflatten(1, (1, 16, 16))


class Judge(nn.Module):
    """Discriminator of two matrices."""

    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(256, 8), nn.Linear(8, 1)

    def forward(self, images):
        return self.head(self.linear(images.flatten(1)).tanh()).squeeze(1)


def test_torch_compile_takes_it_and_no_schedule_compiles_anew():
    config = Config(
        generator=CUSTOM,
        discriminator=CUSTOM,
        resolution=16,
        channels=1,
        latent_size=8,
        batch_size=8,
        penalties=("r1",),
        gamma=(1.0, 0.1),
        generator_beta2=(0.9, 0.99),
        generator_learning_rate=(2e-4, 1e-4),
        generator_optimizer="adamw",
        weight_decay=0.01,
        burn_in_nimg=100,
        precision="float64",
        device="cpu",
    )
    torch.manual_seed(0)
    players = Networks(Painter(), Judge())
    compiled, eager = (Backend(replace(config, compile=each), players) for each in (True, False))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    states = [backend.init() for backend in (compiled, eager)]
    for step in range(3):
        given = [values(config, step)]
        states = [backend.steps(state, given)[0] for backend, state in zip((compiled, eager), states, strict=True)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert_states_close(compiled.export(states[0]), eager.export(states[1]), TOLERANCE, config)
