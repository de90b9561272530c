"""The compiled step is the step: the graph that torch.compile is given, and what it makes of it."""

from typing import Any

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor

from gan_parity import runs
from gan_parity.configurations import CONFIGS, PRESET_CONFIGS
from gan_parity.runs import step_values
from gan_shared.config import Config
from gan_shared.errors import UserError
from gan_shared.option_groups import CUSTOM
from gan_shared.schedules import constant_values
from gan_torch.backend import Backend
from gan_torch.compilation import make_graph, schedule_tensor
from gan_torch.cuda_graph import step_in_place
from gan_torch.models import Networks
from parity_tests.pair import assert_states_close

# Every family, and what no preset has: classes with spectral normalisation and decoupled weight decay, adaptive
# augmentation. Of R3GAN, one preset at the size that all have the same networks at.
GRAPHS = [name for name in PRESET_CONFIGS if not name.startswith("r3gan-ffhq") and name != "r3gan-stacked-mnist"]
GRAPHS += ["sngan-conditional", "adaptive", "vgg-inversion-grey"]
# Sums in another order.
TOLERANCE = 1e-11


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fast) if name == "dcgan" else name for name in GRAPHS]
)
def test_the_recorded_graph_computes_the_step(name):
    backend: Any = runs.backend("torch", CONFIGS[name])
    config, state = backend.config, backend.init()
    given = step_values(config, config.objective.penalty_every - 1)  # the first that has penalties
    eager, expected = backend.steps(backend.init(), [given])
    inputs = backend._inputs(given)
    before = backend.export(state)
    graph = make_graph(backend._step, state, inputs)
    assert all((value == before[key]).all() for key, value in backend.export(state).items())
    compiled: Any = runs.backend("torch", config.with_options(compile=True))
    compiled._step._compiled = graph  # as it is, without torch.compile, which takes half a minute
    state, scalars = compiled.steps(state, [given])
    assert_states_close(backend.export(state), backend.export(eager), TOLERANCE, config)
    for key, value in expected.items():
        assert abs(float(scalars[key]) - float(value)) <= TOLERANCE * max(1.0, abs(float(value))), key


@pytest.mark.parametrize("name", ["dcgan", "r3gan-tiny", "adaptive", "sngan-conditional"])
def test_a_step_that_leaves_every_tensor_in_its_place_is_the_step(name):
    # What a CUDA graph captures: a replay finds its tensors where the capture did.
    config = CONFIGS[name]
    backend: Any = runs.backend("torch", config)
    state, expected = backend.init(), backend.init()
    places = [tensor.data_ptr() for tensor in tensors_of(state)]
    scalars, wanted = {}, {}
    for step in range(2):
        value = step_values(config, step)
        floats = schedule_tensor(value.schedule_values, state)
        scalars = step_in_place(backend._step, state, backend._inputs(value), floats, constant_values(config))
        expected, wanted = backend.steps(expected, [value])
    assert [tensor.data_ptr() for tensor in tensors_of(state)] == places
    assert_states_close(backend.export(state), backend.export(expected), TOLERANCE, config)
    assert scalars.keys() == wanted.keys() != set()
    for key, value in wanted.items():
        assert abs(float(scalars[key]) - float(value)) <= TOLERANCE * max(1.0, abs(float(value))), key


def tensors_of(state):
    networks = (state.generator, state.discriminator, state.generator_ema)
    tensors = [tensor for network in networks for tensor in network.state_dict(keep_vars=True).values()]
    of_optimizers = (state.generator_optimizer_state, state.discriminator_optimizer_state)
    tensors += [tensor for each in of_optimizers for by_name in each.values() for tensor in by_name.values()]
    return [*tensors, state.augment_probability, state.augment_signs, state.step, state.first_non_finite_step]


def test_a_cuda_graph_needs_a_gpu():
    with pytest.raises(UserError, match=r"^cuda_graph: found True, expected False, as this run computes on no GPU$"):
        Backend(CONFIGS["dcgan"].with_options(cuda_graph=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_replayed_step_is_the_step():
    config = CONFIGS["r3gan-tiny"].with_options(device="gpu")
    backends = [Backend(config.with_options(cuda_graph=each)) for each in (True, False)]
    states = [backend.init() for backend in backends]
    for step in range(8):
        given = [step_values(config, step)]
        states = [backend.steps(state, given)[0] for backend, state in zip(backends, states, strict=True)]
    recorded, eager = (backend.export(state) for backend, state in zip(backends, states, strict=True))
    assert_states_close(recorded, eager, TOLERANCE, config)


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
        given = [step_values(config, step)]
        states = [backend.steps(state, given)[0] for backend, state in zip((compiled, eager), states, strict=True)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert_states_close(compiled.export(states[0]), eager.export(states[1]), TOLERANCE, config)
