"""Backends of different precision in one process: each computes what it computes alone; no setting stays changed."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import permutations
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import linen

import gan_jax
import gan_jax.backend
import gan_jax.models
import gan_jax.sample
import gan_jax.train
import gan_torch
import gan_torch.backend
import gan_torch.models
from gan_jax import compilation_cache
from gan_shared.backend import Batch, Inputs, StepValues
from gan_shared.config import Config
from gan_shared.data import cache
from gan_shared.draws import draw
from gan_shared.option_groups import CUSTOM
from gan_shared.schedules import schedule_values

BACKENDS = ("torch", "jax")
PRECISIONS = ("float32", "float64", "tf32")
CONFIG = Config().with_options(
    generator=CUSTOM,
    discriminator=CUSTOM,
    resolution=8,
    channels=1,
    latent_size=4,
    batch_size=4,
    penalties=("r1",),
    gamma=1.0,
    device="cpu",
)
process: Any = jax.config  # whose settings have no types
# What the networks were applied under: in torch whether products and convolutions may be TF32; in JAX whether there is
# float64, and the precision of products.
applied: list[tuple[Any, ...]] = []


class TorchGenerator(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 64)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        applied.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return self.linear(latents).tanh().unflatten(1, (1, 8, 8))


class TorchDiscriminator(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = torch.nn.Linear(64, 8), torch.nn.Linear(8, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.linear(images.flatten(1)).tanh()).squeeze(1)


class JaxGenerator(linen.Module):
    @linen.compact
    def __call__(self, latents: jax.Array) -> jax.Array:
        # While it is compiled, and each time where it is not.
        applied.append((process.jax_enable_x64, process.jax_default_matmul_precision))
        return linen.tanh(linen.Dense(64)(latents)).reshape(-1, 8, 8, 1)


class JaxDiscriminator(linen.Module):
    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return linen.Dense(1)(linen.tanh(linen.Dense(8)(images.reshape(len(images), -1))))[:, 0]


def make(name: str, precision: str) -> Any:
    config = CONFIG.with_options(precision=precision)
    if name == "jax":
        return gan_jax.backend.Backend(config, gan_jax.models.Networks(JaxGenerator(), JaxDiscriminator()))
    torch.manual_seed(0)
    return gan_torch.backend.Backend(config, gan_torch.models.Networks(TorchGenerator(), TorchDiscriminator()))


def values(step: int) -> list[StepValues]:
    images = np.random.default_rng(step).integers(0, 256, (CONFIG.real_rows, 4, 8, 8, 1), np.uint8)
    return [StepValues(Batch(images, None), draw(CONFIG, step), schedule_values(CONFIG, step))]


def bits(backend: Any, state: Any) -> dict[str, tuple[str, bytes]]:
    return {name: (str(value.dtype), value.tobytes()) for name, value in backend.export(state).items()}


def settings() -> dict[str, Any]:
    """Everything of the process that a backend could change."""
    parts = (torch.backends.cuda.matmul, torch.backends.cudnn)
    return {
        **jax.config.values,
        "x64": process.jax_enable_x64,
        "matmul": process.jax_default_matmul_precision,
        "widest": jax.numpy.asarray(np.float64(1)).dtype,
        "tf32": [part.allow_tf32 for part in parts],
        "products": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
    }


@pytest.fixture(scope="module")
def alone() -> dict[tuple[str, str], dict[str, tuple[str, bytes]]]:
    """What each GAN is after three steps with no other one there."""
    ends = {}
    for name in BACKENDS:
        for precision in PRECISIONS:
            backend = make(name, precision)
            state = backend.init()
            for step in range(3):
                state, _ = backend.steps(state, values(step))
            ends[name, precision] = bits(backend, state)
    return ends


@pytest.mark.parametrize("order", [*permutations(PRECISIONS)], ids="-".join)
@pytest.mark.parametrize("name", BACKENDS)
def test_each_trains_to_the_bits_that_it_trains_to_alone(alone, name, order):
    """Built in one order, stepped in turn in the other; states pass through copies and exports on the way."""
    backends = {precision: make(name, precision) for precision in order}
    states = {precision: backends[precision].init() for precision in order}
    for step in range(3):
        for precision in reversed(order):
            backend, state = backends[precision], states[precision]
            state = backend.copy(state) if step == 1 else backend.restore(backend.export(state))
            states[precision], _ = backend.steps(state, values(step))
    for precision in order:
        assert bits(backends[precision], states[precision]) == alone[name, precision], precision
        types = {kind for kind, _ in alone[name, precision].values()} - {"int64"}
        # Adam counts its steps in float32, whatever the precision.
        assert types == ({"float64", "float32"} if precision == "float64" else {"float32"})


@contextmanager
def chosen_by_somebody() -> Iterator[None]:
    """Every setting other than it begins."""
    parts: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    begin = [part.allow_tf32 for part in parts]
    for part in parts:
        part.allow_tf32 = not part.allow_tf32
    try:
        with jax.enable_x64(True), jax.default_matmul_precision("bfloat16"):
            yield
    finally:
        for part, value in zip(parts, begin, strict=True):
            part.allow_tf32 = value


@pytest.mark.parametrize("outer", [False, True], ids=["as they begin", "all changed"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", BACKENDS)
def test_no_call_changes_a_setting_of_the_process(name, precision, outer):
    """Neither those that the process begins with, nor those that somebody else has chosen."""
    with chosen_by_somebody() if outer else nullcontext():
        before = settings()
        applied.clear()
        backend = make(name, precision)
        assert settings() == before
        state = backend.init()
        calls = {
            "steps": lambda: backend.steps(backend.copy(state), values(0)),
            "sample": lambda: backend.sample(state, Inputs(np.zeros((3, 4), np.float32))),
            "export": lambda: backend.export(state),
            "restore": lambda: backend.restore(backend.export(state)),
            "trace": lambda: backend.trace(backend.copy(state), values(0)[0]),
        }
        results = {}
        for call, run in calls.items():
            results[call] = run()
            assert settings() == before, call
        with pytest.raises(KeyError), backend.precision_scope():
            raise KeyError
        assert settings() == before
    rounded = precision == "tf32"
    wanted = {
        "torch": (rounded, rounded),
        "jax": (precision == "float64", "tensorfloat32" if rounded else "highest"),
    }[name]
    assert applied and set(applied) == {wanted}
    # What a trace records has the run's type, however the process would round it.
    wide = "float64" if precision == "float64" else "float32"
    kinds = ("input/", "forward/", "backward/", "gradient/", "update/")
    assert {str(value.dtype) for key, value in results["trace"].items() if key.startswith(kinds)} == {wide}


@pytest.mark.parametrize("name", BACKENDS)
def test_a_float64_gan_beside_a_float32_one(name):
    """The Python API: each makes images of its own type, from latents of any type, before and after training."""
    library: Any = {"torch": gan_torch.GAN, "jax": gan_jax.GAN}[name]
    size: dict[str, Any] = {"resolution": 16, "width": 0.0625, "latent_size": 8, "batch_size": 8, "device": "cpu"}
    before = settings()
    double, single = (library(**size, precision=precision) for precision in ("float64", "float32"))
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16), np.uint8)
    double, single = double.fit(images, steps=1), single.fit(images, steps=1)
    for gan, wide in ((double, "float64"), (single, "float32")):
        latents = np.zeros((2, 8), wide)
        made = gan(torch.from_numpy(latents) if name == "torch" else latents)
        assert str(made.dtype).removeprefix("torch.") == wide
        assert gan.sample(3).shape == (3, 16, 16, 1)
    assert settings() == before


def test_programs_keep_what_they_compile_and_nothing_else_does():
    """In the cache folder, or where the process has configured it."""
    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        make("jax", "float32")
        assert jax.config.values["jax_compilation_cache_dir"] is None
        compilation_cache.enable()
        assert jax.config.values["jax_compilation_cache_dir"] == str(cache.root() / "jax")
        jax.config.update("jax_compilation_cache_dir", "elsewhere")
        compilation_cache.enable()
        assert jax.config.values["jax_compilation_cache_dir"] == "elsewhere"
        jax.config.update("jax_compilation_cache_dir", None)
        for program in (gan_jax.train, gan_jax.sample):  # as a command line begins
            jax.config.update("jax_compilation_cache_dir", None)
            program._backend()
            assert jax.config.values["jax_compilation_cache_dir"] == str(cache.root() / "jax")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
