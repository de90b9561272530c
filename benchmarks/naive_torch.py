"""A plain PyTorch implementation of the same training, as people write it after the tutorials.

Its manner is that of the DCGAN example of the PyTorch project (pytorch/examples, dcgan), from which so many loops are
copied: contiguous tensors of batch, channel, height, width; ``nn.Sequential``; Adam as it comes, not fused;
``backward()`` through the whole discriminator in the generator's update, so that gradients of its weights are computed
and thrown away; reals and fakes in separate forward and backward passes; five ``item()`` in every step, each of which
waits for the device; one forward of the generator serves both updates where the preset reuses its latents. No average
of the generator is kept, as the tutorials keep none. Written from that description, not from the example's text.

The networks have the parameters of ours and make the same updates, in the precision that the run names.
"""

# Loops over steps run at least once, which pyright cannot know.
# pyright: reportPossiblyUnboundVariable=false

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.naive_runs import check_plain
from gan_shared.architecture import R3GAN_GROUP, dcgan_plan, r3gan_plan
from gan_shared.backend import Batch
from gan_shared.config import Config
from gan_shared.draws import Draws
from gan_shared.options import ends


class Resample(nn.Module):
    """Smooth halving or doubling by a constant kernel, one group per channel.

    Args:
        channels: channels of input and output.
        up: whether height and width double instead of halving.
    """

    kernel: Tensor

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        kernel = torch.outer(taps, taps) * (4 if up else 1)
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1))
        self.up, self.groups = up, channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channel, height, width) to half or twice the height and width."""
        convolve = F.conv_transpose2d if self.up else F.conv2d
        return convolve(x, self.kernel.to(x.dtype), stride=2, padding=1, groups=self.groups)


class Residual(nn.Module):
    """1x1 convolution to twice the channels, 3x3 in groups, 1x1 back, beside the identity.

    Args:
        channels: channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner // R3GAN_GROUP),
            nn.LeakyReLU(0.2),
            nn.Conv2d(inner, channels, 1, bias=False),
        )
        nn.init.zeros_(self.body[-1].weight)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channel, height, width) to the same shape."""
        return x + self.body(x)


class LearnedMap(nn.Module):
    """A learned 4x4 map whose channels the latent scales.

    Args:
        latent_size: length of a latent.
        channels: channels of the map.
    """

    def __init__(self, latent_size: int, channels: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(channels, 4, 4))
        self.linear = nn.Linear(latent_size, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, latent, 1, 1) to (batch, channel, 4, 4)."""
        return self.linear(x.flatten(1))[:, :, None, None] * self.basis


def dcgan(config: Config) -> tuple[nn.Module, nn.Module]:
    """Return a generator of latents (batch, latent, 1, 1) and a discriminator of images, which ends in logits."""
    start, sizes = dcgan_plan(config.data.resolution, config.networks.width)
    channels = config.image_shape[2]
    up: list[nn.Module] = [nn.ConvTranspose2d(config.networks.latent_size, sizes[0], start, bias=False)]
    for low, high in pairwise(sizes):
        up += [nn.BatchNorm2d(low), nn.ReLU(True), nn.ConvTranspose2d(low, high, 4, 2, 1, bias=False)]
    up += [nn.BatchNorm2d(sizes[-1]), nn.ReLU(True), nn.ConvTranspose2d(sizes[-1], channels, 4, 2, 1, bias=False)]
    down: list[nn.Module] = [nn.Conv2d(channels, sizes[-1], 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for high, low in pairwise(reversed(sizes)):
        down += [nn.Conv2d(high, low, 4, 2, 1, bias=False), nn.BatchNorm2d(low), nn.LeakyReLU(0.2, inplace=True)]
    down += [nn.Conv2d(sizes[0], 1, start, bias=False), nn.Flatten(0)]
    return nn.Sequential(*up, nn.Tanh()).apply(_begin), nn.Sequential(*down).apply(_begin)


def r3gan(config: Config) -> tuple[nn.Module, nn.Module]:
    """Return a generator of latents (batch, latent, 1, 1) and a discriminator of images, which ends in logits."""
    patch, sizes, blocks, _, _ = r3gan_plan(config.networks.generator, config.data.resolution, config.networks.width)
    channels = config.image_shape[2]
    up: list[nn.Module] = [LearnedMap(config.networks.latent_size, sizes[0])]
    for i, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
        if i > 0:
            up += [*_widening(sizes[i - 1], size), Resample(size, up=True)]
        up += [Residual(size) for _ in range(count)]
    up += [nn.ConvTranspose2d(sizes[-1], channels, patch, patch, bias=False)]
    down: list[nn.Module] = [nn.Conv2d(channels, sizes[-1], patch, patch, bias=False)]
    for i in reversed(range(len(sizes))):
        down += [Residual(sizes[i]) for _ in range(blocks[i])]
        if i > 0:
            down += [Resample(sizes[i], up=False), *_widening(sizes[i], sizes[i - 1])]
    down += [nn.Conv2d(sizes[0], sizes[0], 4, groups=sizes[0], bias=False), nn.Flatten()]
    return nn.Sequential(*up), nn.Sequential(*down, nn.Linear(sizes[0], 1, bias=False), nn.Flatten(0))


def _widening(before: int, after: int) -> list[nn.Module]:
    """Return a 1x1 convolution where the channels differ."""
    return [nn.Conv2d(before, after, 1, bias=False)] if before != after else []


def _begin(layer: nn.Module) -> None:
    """Draw the weights of a DCGAN's layer (Radford et al. 2016)."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


NETWORKS = {"dcgan": dcgan, "r3gan": r3gan, "r3gan-tiny": r3gan}


class Naive:
    """The tutorial's training loop, one step at a time.

    Args:
        config: the run; its channels must be known.

    Raises:
        UserError: the run is of another kind than those that the tutorials show.
    """

    def __init__(self, config: Config) -> None:
        check_plain(config)
        self.config = config
        self.device = torch.device("cuda" if config.execution.device != "cpu" and torch.cuda.is_available() else "cpu")
        rounded = config.training.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = rounded
        torch.manual_seed(config.training.seed)
        generator, discriminator = NETWORKS[config.networks.generator](config)
        self.generator, self.discriminator = generator.to(self.device), discriminator.to(self.device)
        rates = ends(config.generator_optimizer.learning_rate)[0], ends(config.discriminator_optimizer.learning_rate)[0]
        beta1, beta2 = (ends(config.generator_optimizer.hyperparameter(name))[0] for name in ("beta1", "beta2"))
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), rates[0], (beta1, beta2))
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), rates[1], (beta1, beta2))
        self.gamma = ends(config.objective.gamma)[0]

    def step(self, batch: Batch, draws: Draws) -> dict[str, float]:
        """Run one step; the schedules stay at their first values."""
        run = self._relativistic if self.config.objective.loss == "relativistic" else self._cross_entropy
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.training.precision == "bfloat16"):
            return run(batch, draws)

    def wait(self) -> None:
        """Return when the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def versions(self) -> dict[str, str]:
        """Return the versions and the device."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {"torch": torch.__version__, "numpy": np.__version__, "device": device}

    def _cross_entropy(self, batch: Batch, draws: Draws) -> dict[str, float]:
        """DCGAN's step: binary cross-entropy, the non-saturating generator loss."""
        criterion = nn.BCEWithLogitsLoss()
        for update in range(self.config.objective.discriminator_updates):
            self.discriminator.zero_grad()
            real_logits = self.discriminator(self._images(batch, update))
            real_loss = criterion(real_logits, torch.ones_like(real_logits))
            real_loss.backward()
            fakes = self.generator(self._latents(draws, update))
            fake_logits = self.discriminator(fakes.detach())
            fake_loss = criterion(fake_logits, torch.zeros_like(fake_logits))
            fake_loss.backward()
            discriminator_loss = real_loss + fake_loss
            self.discriminator_optimizer.step()
        self.generator.zero_grad()
        if self.config.objective.fresh_latents:
            fakes = self.generator(self._latents(draws, -1))
        logits = self.discriminator(fakes)
        loss = criterion(logits, torch.ones_like(logits))
        loss.backward()
        self.generator_optimizer.step()
        return {
            "discriminator_loss": discriminator_loss.item(),
            "generator_loss": loss.item(),
            "real_logit": real_logits.mean().item(),
            "fake_logit": fake_logits.mean().item(),
            "fake_logit_after": logits.mean().item(),
        }

    def _relativistic(self, batch: Batch, draws: Draws) -> dict[str, float]:
        """R3GAN's step: the relativistic loss of each real and its fake, with R1 and R2."""
        for update in range(self.config.objective.discriminator_updates):
            self.discriminator.zero_grad()
            reals = self._images(batch, update).requires_grad_()
            fakes = self.generator(self._latents(draws, update)).detach().requires_grad_()
            real_logits, fake_logits = self.discriminator(reals), self.discriminator(fakes)
            value = F.softplus(fake_logits - real_logits).mean()
            penalty = self.gamma / 2 * (_squared_slope(real_logits, reals) + _squared_slope(fake_logits, fakes))
            (value + penalty).backward()
            self.discriminator_optimizer.step()
        self.generator.zero_grad()
        real_logits = self.discriminator(self._images(batch, -1))
        logits = self.discriminator(self.generator(self._latents(draws, -1)))
        loss = F.softplus(real_logits - logits).mean()
        loss.backward()
        self.generator_optimizer.step()
        return {
            "discriminator_loss": value.item(),
            "generator_loss": loss.item(),
            "penalty": penalty.item(),
            "real_logit": real_logits.mean().item(),
            "fake_logit": fake_logits.mean().item(),
        }

    def _images(self, batch: Batch, row: int) -> Tensor:
        """Copy one row of uint8 images to the device as contiguous floats in [-1, 1]."""
        images = torch.from_numpy(batch.images[row]).to(self.device)
        return images.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1

    def _latents(self, draws: Draws, row: int) -> Tensor:
        """Copy one row of latents to the device: (batch, latent, 1, 1)."""
        return torch.from_numpy(draws.latents[row]).to(self.device)[:, :, None, None]


def _squared_slope(logits: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared norm of the logits' gradients at their images."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
