"""Modules of one's own for tests of the torch backend; ``modules_jax.py`` has the same for JAX."""

from typing import Any

import numpy as np
import torch
from torch import nn

from gan_torch import losses


class Generator(nn.Module):
    """A linear layer, batch normalisation, tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 144)
        self.norm = nn.BatchNorm1d(144)
        nn.init.constant_(self.body.bias, 0.25)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.norm(self.body(latents))).view(-1, 1, 12, 12)


class Discriminator(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(400, 1)
        nn.init.constant_(self.get_parameter("body.bias"), 0.25)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(images)).flatten(1))[:, 0]


class Rows(nn.Module):
    """A generator of rows of numbers, not of images."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 256)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.linear(latents)


class Tutorial(nn.Module):
    """A generator of latents (batch, latent, 1, 1), as PyTorch's tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ConvTranspose2d(8, 1, 12)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.body(latents))


class Probability(Discriminator):
    """A discriminator that ends in a sigmoid."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(super().forward(images))


class Dropping(Discriminator):
    """A discriminator with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(self.dropout(images))


class Nothing(nn.Module):
    """A discriminator without parameters."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3))


class Shaped(nn.Module):
    """Results of one shape, the batch first where that begins with 0, from a parameter of no use."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.sum() + torch.zeros(self.shape if self.shape[0] else (len(x), *self.shape[1:]))


class Pair(Shaped):
    """Two results instead of one."""

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(x), x


class Tied(nn.Module):
    """A generator of two layers, and a third that shares the weights of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 256), nn.Linear(256, 256)
        self.third = self.second

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(latents))).tanh().unflatten(1, (1, 16, 16))


class HalfFrozen(nn.Module):
    """A layer that learns behind one that does not, with torch's own spectral normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.still = nn.Linear(256, 8).requires_grad_(False)
        self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.still(images.flatten(1)).relu())[:, 0]


# Pairs of functions of one's own that are those of a named loss.
LOSSES: dict[str, Any] = {
    "bce": (losses.bce_discriminator, lambda fake: losses.bce_generator(None, fake)),
    "relativistic": (losses.relativistic_discriminator, losses.relativistic_generator),
    # One loss for each image, as a mean over the axes behind the first is.
    "wasserstein": (
        lambda real, fake: (fake - real).flatten(1).mean(1) if fake.ndim > 1 else fake - real,
        lambda fake: -fake.flatten(1).mean(1) if fake.ndim > 1 else -fake,
    ),
}
# Pairs that are refused, and words of the line that says so.
WRONG_LOSSES: list[tuple[Any, str]] = [
    ((losses.bce_discriminator, lambda fake: -fake.mean()), "float32 of shape () (the generator's function returns"),
    ((lambda real, fake: (fake - real).mean(), torch.neg), "expected a name, or a pair of functions"),
    ((lambda real, fake: (fake - real).mean(), lambda fake: -fake), "shape () (the discriminator's"),
    ((lambda real, fake: fake[:1], lambda fake: -fake), "float32 of shape (1,)"),
    ((lambda real, fake: (fake - real).double(), lambda fake: -fake), "found float64 of shape (2,)"),
    ((lambda real, fake: fake / 0, lambda fake: -fake), "found a number that is not finite"),
    ((lambda real, fake: fake - real, lambda fake: -fake.detach()), "does not require grad"),
    ((lambda real, fake: fake - real, lambda fake: fake.nothing), "a function for the generator that raises Attribute"),
    ((lambda real, fake: fake - real, lambda fake: (fake - fake).abs().sqrt() - fake), "derivative is not finite"),
]


def sgd(rate: float, momentum: float = 0.0) -> Any:
    """Return gradient descent as one's own optimiser."""
    return lambda parameters: torch.optim.SGD(parameters, rate, momentum)


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Adam of one's own, with fused updates, which walk through memory."""
    return torch.optim.Adam(parameters, 1e-3, fused=True)


def nested(parameters: Any) -> torch.optim.Optimizer:
    """Adam with the largest squares so far, and another rate for tensors of one axis."""
    groups = [[each for each in parameters if (each.ndim == 1) is single] for single in (True, False)]
    first, second = ({"params": group, "lr": rate} for group, rate in zip(groups, (1e-3, 2e-3), strict=True))
    return torch.optim.Adam([first, second] if groups[0] else [second], amsgrad=True)


class _Counting(torch.optim.SGD):
    """Gradient descent whose rate falls with every step, as of optimisers that keep numbers in their groups."""

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            group["lr"] *= 0.75
            group["done"] = group.get("done", 0) + 1
        super().step(closure)


def counting(parameters: Any) -> torch.optim.Optimizer:
    """Gradient descent that changes its own rate."""
    return _Counting(parameters, 0.1)


class _Listing(torch.optim.SGD):
    """Gradient descent that keeps lists."""

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().step(closure)
        self.state[self.param_groups[0]["params"][0]]["past"] = [1, 2]


# What is refused as an optimiser, and words of the line that says so.
WRONG_OPTIMIZERS: list[tuple[Any, str]] = [
    (lambda parameters: None, "found a function that returns NoneType, expected a function from a list of parameters"),
    (lambda parameters: torch.optim.SGD(parameters[1:], 0.1), "expected the "),
    (lambda parameters: torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1), "found an optimiser of 1 parameters"),
    (lambda: None, "found a function that raises TypeError"),
    (lambda parameters: torch.optim.SGD(parameters, -1), "raises ValueError: Invalid learning rate: -1"),
    (torch.optim.LBFGS, "found an optimiser that raises TypeError"),
    (lambda parameters: _Listing(parameters, 0.1), "/past of type list, expected tensors of NumPy's types"),
    (("adam",), "found ('adam',), expected a name, or a function from a list of parameters"),
    (torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1), "found SGD ( Parameter Group 0 "),
]


def called(gan: Any, latents: np.ndarray) -> np.ndarray:
    """Return what a GAN makes of latents (batch, latent) when it is called: (batch, height, width, channel)."""
    return gan(torch.from_numpy(latents)).permute(0, 2, 3, 1).detach().numpy()


def values(module: nn.Module, example: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return what a module begins with, by torch's names; neither an input nor a seed is needed."""
    del example, seed
    return {name: value.numpy() for name, value in module.state_dict().items()}
