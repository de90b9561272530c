"""Modules of one's own for tests of the torch backend; ``modules_jax.py`` has the same for JAX."""

from typing import Any

import numpy as np
import torch
from torch import nn


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


def called(gan: Any, latents: np.ndarray) -> np.ndarray:
    """Return what a GAN makes of latents (batch, latent) when it is called: (batch, height, width, channel)."""
    return gan(torch.from_numpy(latents)).permute(0, 2, 3, 1).detach().numpy()


def values(module: nn.Module, example: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return what a module begins with, by torch's names; neither an input nor a seed is needed."""
    del example, seed
    return {name: value.numpy() for name, value in module.state_dict().items()}
