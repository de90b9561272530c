"""The compiled step is the step: the graph that torch.compile is given, and what it makes of it."""

from typing import Any

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor

from gan_parity import runs
from gan_parity.configurations import CONFIGS, PRESET_CONFIGS, SHORTENED
from gan_parity.runs import real_batch
from gan_shared.backend import StepValues
from gan_shared.config import Config
from gan_shared.draws import draw
from gan_shared.option_groups import CUSTOM
from gan_shared.schedules import schedule_values
from gan_torch.backend import Backend
from gan_torch.compilation import make_graph
from gan_torch.models import Networks
from parity_tests.pair import assert_states_close

# And what no preset has: classes with spectral normalisation and decoupled weight decay, adaptive augmentation.
GRAPHS = [*PRESET_CONFIGS, "sngan-conditional", "adaptive", "vgg-inversion-grey"]
# Sums in another order.
TOLERANCE = 1e-11


def values(config, step):
    return StepValues(real_batch(config, step), draw(config, step), schedule_values(config, step))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fast) if name == "dcgan" else name for name in GRAPHS]
)
def test_the_recorded_graph_computes_the_step(name):
    backend: Any = runs.backend("torch", CONFIGS[name].with_options(**SHORTENED.get(name, {})))
    config, state = backend.config, backend.init()
    eager, expected = backend.steps(backend.init(), [values(config, 0)])
    inputs = backend._inputs(values(config, 0))
    before = backend.export(state)
    graph = make_graph(backend._step, state, inputs)
    assert all((value == before[key]).all() for key, value in backend.export(state).items())
    compiled: Any = runs.backend("torch", config.with_options(compile=True))
    compiled._step._compiled = graph  # as it is, without torch.compile, which takes half a minute
    state, scalars = compiled.steps(state, [values(config, 0)])
    assert_states_close(backend.export(state), backend.export(eager), TOLERANCE, config)
    for key, value in expected.items():
        assert abs(float(scalars[key]) - float(value)) <= TOLERANCE * max(1.0, abs(float(value))), key


class MatrixGenerator(nn.Module):
    """Generator of one matrix, as what is compiled here costs time for every operation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 256)

    def forward(self, latents):
        return self.linear(latents).tanh().unflatten(1, (1, 16, 16))


class MatrixDiscriminator(nn.Module):
    """Discriminator of two matrices."""

    def __init__(self):
        super().__init__()
        self.linear, self.head = nn.Linear(256, 8), nn.Linear(8, 1)

    def forward(self, images):
        return self.head(self.linear(images.flatten(1)).tanh()).squeeze(1)


def test_torch_compile_takes_it_and_no_schedule_compiles_anew(monkeypatch):
    # Spares a compiler's trial of each vector instruction set.
    monkeypatch.setattr(inductor.cpp, "simdlen", 1)
    config = Config().with_options(
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
        generator_weight_decay=0.01,
        discriminator_weight_decay=0.01,
        burn_in_nimg=100,
        precision="float64",
        device="cpu",
    )
    torch.manual_seed(0)
    networks = Networks(MatrixGenerator(), MatrixDiscriminator())
    compiled, eager = (Backend(config.with_options(compile=each), networks) for each in (True, False))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    states = [backend.init() for backend in (compiled, eager)]
    for step in range(3):
        given = [values(config, step)]
        states = [backend.steps(state, given)[0] for backend, state in zip((compiled, eager), states, strict=True)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert_states_close(compiled.export(states[0]), eager.export(states[1]), TOLERANCE, config)
