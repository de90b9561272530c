"""Ports of single layers and small networks, right and wrong, and what the locator must say of each."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from flax import linen, nnx
from torch import nn


def images(channels: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 5, 5, channels))


def rows(features: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, features))


def moved(module: nn.Module) -> nn.Module:
    """Return a module whose parameters and statistics are not those that it begins with."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for value in (*module.parameters(), *(each for each in module.buffers() if each.is_floating_point())):
            value.add_(0.3 * torch.rand_like(value))
    return module


class PortCase(NamedTuple):
    """An original and its port.

    Attributes:
        name: of the case.
        original: makes the module in torch.
        port: makes the module in Flax.
        inputs: of both.
        key: name of the first value that differs; empty where the port is right.
        trap: that must be suspected first.
        words: that the report must hold.
    """

    name: str
    original: Callable[[], nn.Module]
    port: Callable[[], linen.Module | nnx.Module]
    inputs: Any
    key: str = ""
    trap: str = ""
    words: str = ""


def nnx_layer(kind: Callable[..., nnx.Module], *arguments: Any, **options: Any) -> Callable[[], nnx.Module]:
    return lambda: kind(*arguments, rngs=nnx.Rngs(0), **options)


def in_evaluation(module: nnx.Module) -> nnx.Module:
    module.eval()
    return module


def conv(**options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(4, 6, 3, **options)


UP = {
    name: (lambda arguments=arguments: nn.ConvTranspose2d(*arguments))
    for name, arguments in {"wider": (4, 6, 4, 2, 1), "square": (4, 4, 4, 2, 1), "odd": (4, 6, 3, 2, 1, 1)}.items()
}


def transposed(features: int, kernel: int, padding: Any, turned: bool) -> Callable[[], linen.Module]:
    return lambda: linen.ConvTranspose(features, (kernel, kernel), (2, 2), padding, transpose_kernel=turned)


TURN, PAD = "kernel of a transposed convolution", "padding of a transposed convolution"
WEIGHT, BIAS, FORWARD = "tensor/module/weight", "tensor/module/bias", "forward/module.0/"

# Shapes that do not fit are a finding.
SHAPES = [
    PortCase("transposed, SAME", UP["wider"], transposed(6, 4, "SAME", False), images(), WEIGHT, TURN, "(4, 6, 4"),
    PortCase("transposed, square", UP["square"], transposed(4, 4, "SAME", False), images(), FORWARD, TURN),
    PortCase("transposed, right", UP["wider"], transposed(6, 4, "SAME", True), images()),
    PortCase("transposed, VALID", UP["wider"], transposed(6, 4, "VALID", True), images(), FORWARD, PAD, "(2, 12"),
    PortCase("transposed, odd", UP["odd"], transposed(6, 3, "SAME", True), images(), FORWARD, PAD, "(1, 2)"),
    PortCase("transposed, odd, right", UP["odd"], transposed(6, 3, ((1, 2), (1, 2)), True), images()),
    PortCase(
        "nnx transposed, SAME",
        UP["wider"],
        nnx_layer(nnx.ConvTranspose, 4, 6, (4, 4), (2, 2), padding="SAME"),
        images(),
        WEIGHT,
        TURN,
        "exchanged",
    ),
    PortCase(
        "nnx transposed, right",
        UP["wider"],
        nnx_layer(nnx.ConvTranspose, 4, 6, (4, 4), (2, 2), padding="SAME", transpose_kernel=True),
        images(),
    ),
    PortCase("features", conv(), lambda: linen.Conv(5, (3, 3), padding=0), images(), WEIGHT, "", "channels 6 and 5"),
    PortCase(
        "kernel size", conv(), lambda: linen.Conv(6, (5, 3), padding=0), images(), WEIGHT, "", "kernel height 3 and 5"
    ),
    PortCase("padding", conv(), lambda: linen.Conv(6, (3, 3)), images(), FORWARD, "padding of a convolution", "SAME"),
    PortCase("strides", conv(stride=2), lambda: linen.Conv(6, (3, 3), padding=0), images(), FORWARD, "", "strides: "),
    PortCase(
        "no bias", conv(), lambda: linen.Conv(6, (3, 3), padding=0, use_bias=False), images(), BIAS, "", "use_bias"
    ),
    PortCase(
        "a bias more", conv(bias=False), lambda: linen.Conv(6, (3, 3), padding=0), images(), BIAS, "", "bias=False"
    ),
    PortCase("groups", conv(groups=2), lambda: linen.Conv(6, (3, 3), padding=0, feature_group_count=2), images()),
    PortCase("no groups", conv(groups=2), lambda: linen.Conv(6, (3, 3), padding=0), images(), WEIGHT, "", "groups"),
    PortCase("nnx conv", conv(), nnx_layer(nnx.Conv, 4, 6, (3, 3), padding=0), images()),
    PortCase("outputs", lambda: nn.Linear(4, 6), lambda: linen.Dense(7), rows(), WEIGHT, "", "outputs 6 and 7"),
    PortCase("nnx linear", lambda: nn.Linear(4, 6), nnx_layer(nnx.Linear, 4, 6), rows()),
    PortCase(
        "nnx outputs", lambda: nn.Linear(4, 6), nnx_layer(nnx.Linear, 4, 7), rows(), WEIGHT, "", "outputs 6 and 7"
    ),
    PortCase(
        "rows", lambda: nn.Embedding(9, 4), lambda: linen.Embed(8, 4), np.array([[1, 2]]), WEIGHT, "", "rows 9 and 8"
    ),
    PortCase("embedding", lambda: nn.Embedding(9, 4), lambda: linen.Embed(9, 4), np.array([[1, 2], [3, 3]])),
]


def batch_norm(average: bool, **options: Any) -> Callable[[], linen.Module]:
    return lambda: linen.BatchNorm(use_running_average=average, **{"momentum": 0.9, **options})


VARIANCE, MOMENTUM = "variance that batch normalisation keeps", "momentum of batch normalisation"


def trained(kind: Callable[..., nn.Module], *arguments: Any, **options: Any) -> Callable[[], nn.Module]:
    return lambda: moved(kind(*arguments, **options))


def evaluated() -> nn.Module:
    return moved(nn.BatchNorm2d(4)).eval()


def both_epsilons(
    kind: str, original: Callable[[], nn.Module], port: Callable[..., Any], inputs: Any
) -> list[PortCase]:
    """Return the port with torch's epsilon, and the one with Flax's default."""
    trap, words = f"epsilon of {kind} normalisation", "eps=1e-05 in torch is epsilon=1e-05 in Flax, the port has 1e-06"
    return [
        PortCase(f"{kind} norm, right", original, partial(port, epsilon=1e-5), inputs),
        PortCase(f"{kind} norm, epsilon", original, port, inputs, FORWARD, trap, words),
    ]


# Norms: what is right is no difference, and each default that differs leads to its trap.
NORMS = [
    PortCase("batch norm, evaluation", evaluated, batch_norm(True), images()),
    PortCase(
        "batch norm, training",
        trained(nn.BatchNorm2d, 4),
        batch_norm(False),
        images(),
        "state/module/running_var",
        VARIANCE,
        "unbiased",
    ),
    PortCase(
        "batch norm, momentum",
        trained(nn.BatchNorm2d, 4),
        batch_norm(False, momentum=0.99),
        images(),
        "state/module/running_mean",
        MOMENTUM,
        "momentum=0.9 in Flax, the port has 0.99",
    ),
    PortCase(
        "batch norm, mode",
        trained(nn.BatchNorm2d, 4),
        batch_norm(True),
        images(),
        FORWARD,
        "mode of batch normalisation",
        "use_running_average=False in Flax",
    ),
    PortCase(
        "batch norm, epsilon",
        evaluated,
        batch_norm(True, epsilon=1e-3),
        images(),
        FORWARD,
        "epsilon of batch normalisation",
        "0.001",
    ),
    PortCase(
        "nnx batch norm, evaluation", evaluated, lambda: in_evaluation(nnx.BatchNorm(4, rngs=nnx.Rngs(0))), images()
    ),
    PortCase(
        "nnx batch norm, training",
        trained(nn.BatchNorm2d, 4),
        nnx_layer(nnx.BatchNorm, 4, momentum=0.9),
        images(),
        "state/module/running_var",
        VARIANCE,
    ),
    *both_epsilons("layer", trained(nn.LayerNorm, 4), linen.LayerNorm, rows()),
    *both_epsilons("group", trained(nn.GroupNorm, 2, 4), partial(linen.GroupNorm, 2), images()),
    *both_epsilons("instance", trained(nn.InstanceNorm2d, 4, affine=True), linen.InstanceNorm, images()),
    PortCase(
        "nnx layer",
        trained(nn.LayerNorm, 4),
        nnx_layer(nnx.LayerNorm, 4),
        rows(),
        FORWARD,
        "epsilon of layer normalisation",
    ),
    PortCase(
        "instance, affine",
        lambda: nn.InstanceNorm2d(4),
        lambda: linen.InstanceNorm(epsilon=1e-5),
        images(),
        BIAS,
        "parameters of instance normalisation",
    ),
    PortCase(
        "instance, nothing to train",
        lambda: nn.InstanceNorm2d(4),
        lambda: linen.InstanceNorm(use_bias=False, use_scale=False, epsilon=1e-5),
        images(),
    ),
]
