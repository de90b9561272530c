"""Reduced configurations: every preset, and what no preset has, at sizes that a CPU trains in float64 in seconds."""

from typing import Any

from gan_shared.config import Config
from gan_shared.option_groups import AUGMENTATIONS
from gan_shared.presets import PRESETS

SMALL = PRESETS["dcgan"].with_options(
    channels=1, width=0.125, batch_size=8, latent_size=16, precision="float64", device="cpu"
)


def reduced(preset: str, width: float, **changes: Any) -> Config:
    """Return a preset at a size that a CPU trains in float64; its schedules end within the steps of a short run.

    Args:
        preset: its name.
        width: of the networks.
        changes: further options, by name.
    """
    config = PRESETS[preset]
    small = {"channels": config.data.channels or 1, "batch_size": 4, "latent_size": 16, "width": width}
    small |= {"num_classes": 10} if config.data.class_conditional else {}
    small |= {"burn_in_nimg": 200, "ema_half_life_nimg": (0.0, 400.0)} if config.training.burn_in_nimg else {}
    return config.with_options(precision="float64", device="cpu", **(small | changes))


SLOW = {f"{network}_learning_rate": (2e-4, 1e-5) for network in ("generator", "discriminator")}
# 1/96 leaves R3GAN's 768 channels 8, whose blocks hold one group; r3gan-tiny has two and three.
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
    # A tenth of the rates: at first those put every unit of the hidden layer on one side of its LeakyReLU for all
    # images, and there the gradients of its bias from reals and fakes cancel.
    "stacked-mnist-cpu": reduced("stacked-mnist-cpu", 0.125, channels=3, **SLOW),
    "fashion-cpu": reduced("fashion-cpu", 0.125, **SLOW),
    "vgg-inversion": reduced("vgg-inversion", 0.0625, resolution=32, vgg_weights="random", latent_size=4),
    # The middle one of three pyramid levels: its images are made from those of the highest, and so is its condition.
    "lapgan": reduced("lapgan", 0.125, resolution=16),
}
# What no preset has: other sizes, orders of updates, optimisers, conditioning and adaptation.
OTHER_CONFIGS = {
    "dcgan-rgb-16": SMALL.with_options(
        channels=3, resolution=16, generator_activation="silu", discriminator_activation="gelu"
    ),
    "mse-two-updates": SMALL.with_options(loss="mse", discriminator_updates=2),
    "shared-two-updates": SMALL.with_options(fresh_latents=False, discriminator_updates=2, discriminator_beta2=0.99),
    "relativistic-conditional": SMALL.with_options(loss="relativistic", class_conditional=True, num_classes=10),
    "no-average": SMALL.with_options(ema_half_life_nimg=0.0),
    "conditional-spectral-sigmoid": SMALL.with_options(
        class_conditional=True,
        num_classes=10,
        loss="hinge",
        discriminator_norm="spectral",
        output_activation="sigmoid",
        generator_optimizer="rmsprop",
        discriminator_optimizer="sgd",
        discriminator_learning_rate=4e-4,
        gradient_clip=0.5,
        generator_momentum=0.5,
        generator_alpha=0.999,
        generator_weight_decay=0.01,
        discriminator_momentum=0.5,
        discriminator_weight_decay=0.01,
    ),
    "sngan-conditional": reduced(
        "sngan",
        0.03125,
        class_conditional=True,
        num_classes=10,
        generator_optimizer="adamw",
        generator_weight_decay=0.01,
        discriminator_weight_decay=0.01,
    ),
    # Batch statistics, every penalty, adaptive augmentation that moves at every fourth step.
    "adaptive": SMALL.with_options(
        loss="minimax",
        penalties=("gradient-penalty", "r1", "r2"),
        gamma=(2.0, 0.5),
        burn_in_nimg=400,
        augment=tuple(AUGMENTATIONS),
        augment_probability=(0.5, 0.2),
        augment_target=0.3,
        augment_adapt_nimg=500,
    ),
    "frozen-generator": SMALL.with_options(freeze="generator", output_activation="none"),
    "vgg-inversion-grey": reduced(
        "vgg-inversion",
        0.0625,
        resolution=32,
        vgg_weights="random",
        vgg_layer="relu3_3",
        channels=1,
        class_conditional=True,
        num_classes=10,
        latent_size=0,
        loss="relativistic",
        fresh_latents=True,
        output_activation="sigmoid",
        discriminator_updates=2,
        recompute=True,
    ),
    # A logit for each of 2x2 patches, once with classes and the gradient of a penalty, once with batch statistics.
    "patch": SMALL.with_options(
        discriminator="patch",
        discriminator_norm="spectral",
        class_conditional=True,
        num_classes=10,
        loss="hinge",
        penalties=("r1",),
        gamma=1.0,
    ),
    "patch-batch": SMALL.with_options(discriminator="patch", loss="mse", resolution=16),
    "lapgan-lowest": reduced("lapgan", 0.125, resolution=8),
    "lapgan-highest": reduced(
        "lapgan",
        0.125,
        resolution=32,
        class_conditional=True,
        num_classes=10,
        latent_size=0,
        discriminator_updates=2,
        augment=("flip", "cutout"),
        augment_probability=0.5,
    ),
}
CONFIGS = PRESET_CONFIGS | OTHER_CONFIGS
# At 256 pixels a step takes seconds in float64; one such step is in test_step.py. At 64 it would be r3gan-ffhq-64's.
SHORTENED: dict[str, dict[str, Any]] = {"r3gan-ffhq-256": {"resolution": 32}}
