"""A plain Flax implementation of the same training, as people port it from PyTorch.

Its manner is that of the public Flax ports of DCGAN: ``nn.Conv``, ``nn.ConvTranspose`` with SAME padding and
``nn.BatchNorm`` as they come; ``optax.adam``; one jitted function per update, each of which makes its own fakes;
arrays that are copied to the device one by one; penalties by ``jax.grad`` of the summed logits inside the loss; smooth
resampling as a convolution with one group per channel. Nothing is donated and nothing chosen for the platform. No
average of the generator is kept. Written from that description, not from any port's text.

The networks have the parameters of ours and make the same updates, in the precision that the run names.
"""

# Loops over steps run at least once, which pyright cannot know.
# pyright: reportPossiblyUnboundVariable=false

from functools import partial
from itertools import pairwise
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.naive_runs import check_plain
from gan_jax.backend import find_device
from gan_shared.architecture import R3GAN_GROUP, dcgan_plan, r3gan_plan
from gan_shared.backend import Batch
from gan_shared.config import Config
from gan_shared.draws import Draws
from gan_shared.options import ends

Variables = Any
NORMAL = nn.initializers.normal(0.02)


class DcganGenerator(nn.Module):
    """Latents (batch, latent) to images (batch, height, width, channel)."""

    config: Config
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply in training mode: the batch's own statistics normalise."""
        start, sizes = dcgan_plan(self.config.data.resolution, self.config.networks.width)
        up = partial(nn.ConvTranspose, use_bias=False, kernel_init=NORMAL, dtype=self.dtype)
        norm = partial(nn.BatchNorm, use_running_average=False, momentum=0.9, dtype=self.dtype)
        x = nn.relu(norm()(up(sizes[0], (start, start), padding="VALID")(x[:, None, None, :])))
        for size in sizes[1:]:
            x = nn.relu(norm()(up(size, (4, 4), (2, 2), padding="SAME")(x)))
        x = up(self.config.image_shape[2], (4, 4), (2, 2), padding="SAME")(x)
        return nn.tanh(x).astype(jnp.float32)


class DcganDiscriminator(nn.Module):
    """Images (batch, height, width, channel) to logits (batch,)."""

    config: Config
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply in training mode: the batch's own statistics normalise."""
        start, sizes = dcgan_plan(self.config.data.resolution, self.config.networks.width)
        down = partial(nn.Conv, use_bias=False, kernel_init=NORMAL, dtype=self.dtype)
        norm = partial(nn.BatchNorm, use_running_average=False, momentum=0.9, dtype=self.dtype)
        x = nn.leaky_relu(down(sizes[-1], (4, 4), (2, 2), padding="SAME")(x), 0.2)
        for _, size in pairwise(reversed(sizes)):
            x = nn.leaky_relu(norm()(down(size, (4, 4), (2, 2), padding="SAME")(x)), 0.2)
        return down(1, (start, start), padding="VALID")(x).reshape(-1).astype(jnp.float32)


class Residual(nn.Module):
    """1x1 convolution to twice the channels, 3x3 in groups, 1x1 back, beside the identity."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map (batch, height, width, channel) to the same shape."""
        inner = 2 * self.channels
        y = nn.leaky_relu(nn.Conv(inner, (1, 1), dtype=self.dtype)(x), 0.2)
        grouped = nn.Conv(inner, (3, 3), feature_group_count=inner // R3GAN_GROUP, dtype=self.dtype)
        y = nn.leaky_relu(grouped(y), 0.2)
        zeros = nn.initializers.zeros
        return x + nn.Conv(self.channels, (1, 1), use_bias=False, kernel_init=zeros, dtype=self.dtype)(y)


class R3ganGenerator(nn.Module):
    """Latents (batch, latent) to images (batch, height, width, channel)."""

    config: Config
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply; training and evaluation are the same."""
        patch, sizes, blocks, _, _ = r3gan_plan(
            self.config.networks.generator, self.config.data.resolution, self.config.networks.width
        )
        basis = self.param("basis", nn.initializers.normal(1.0), (4, 4, sizes[0]))
        x = nn.Dense(sizes[0], use_bias=False)(x)[:, None, None, :] * basis
        x = x.astype(self.dtype)
        for i, (size, count) in enumerate(zip(sizes, blocks, strict=True)):
            if i > 0:
                if sizes[i - 1] != size:
                    x = nn.Conv(size, (1, 1), use_bias=False, dtype=self.dtype)(x)
                x = resample(x, up=True)
            for _ in range(count):
                x = Residual(size, self.dtype)(x)
        pixels = partial(nn.ConvTranspose, self.config.image_shape[2], (patch, patch), (patch, patch))
        return pixels(padding="VALID", use_bias=False, dtype=self.dtype)(x).astype(jnp.float32)


class R3ganDiscriminator(nn.Module):
    """Images (batch, height, width, channel) to logits (batch,)."""

    config: Config
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Apply; training and evaluation are the same."""
        patch, sizes, blocks, _, _ = r3gan_plan(
            self.config.networks.generator, self.config.data.resolution, self.config.networks.width
        )
        plain = partial(nn.Conv, use_bias=False, dtype=self.dtype)
        x = plain(sizes[-1], (patch, patch), (patch, patch), padding="VALID")(x)
        for i in reversed(range(len(sizes))):
            for _ in range(blocks[i]):
                x = Residual(sizes[i], self.dtype)(x)
            if i > 0:
                x = resample(x, up=False)
                if sizes[i - 1] != sizes[i]:
                    x = plain(sizes[i - 1], (1, 1))(x)
        x = plain(sizes[0], (4, 4), padding="VALID", feature_group_count=sizes[0])(x).reshape(len(x), -1)
        return nn.Dense(1, use_bias=False, dtype=self.dtype)(x).reshape(-1).astype(jnp.float32)


def resample(x: Array, up: bool) -> Array:
    """Halve or double height and width of (batch, height, width, channel) smoothly, one group per channel."""
    taps = jnp.array([1, 3, 3, 1], x.dtype) / 8
    channels = x.shape[-1]
    kernel = jnp.tile((jnp.outer(taps, taps) * (4 if up else 1))[:, :, None, None], (1, 1, 1, channels))
    stride, dilation, padding = ((1, 1), (2, 2), (2, 2)) if up else ((2, 2), (1, 1), (1, 1))
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        stride,
        (padding, padding),
        lhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


NETWORKS = {
    "dcgan": (DcganGenerator, DcganDiscriminator),
    "r3gan": (R3ganGenerator, R3ganDiscriminator),
    "r3gan-tiny": (R3ganGenerator, R3ganDiscriminator),
}


class Naive:
    """The training loop of a port, one step at a time.

    Args:
        config: the run; its channels must be known.

    Raises:
        UserError: the run is of another kind than those that ports show.
    """

    def __init__(self, config: Config) -> None:
        check_plain(config)
        self.config = config
        self.device = find_device(config.execution.device)
        dtype = jnp.bfloat16 if config.training.precision == "bfloat16" else jnp.float32
        make_generator, make_discriminator = NETWORKS[config.networks.generator]
        self.generator, self.discriminator = make_generator(config, dtype), make_discriminator(config, dtype)
        self.gamma = ends(config.objective.gamma)[0]
        keys = jax.random.split(jax.random.key(config.training.seed))
        latents, images = jnp.zeros((2, config.networks.latent_size)), jnp.zeros((2, *config.image_shape))
        with jax.default_device(self.device):
            generator_variables = self.generator.init(keys[0], latents)
            discriminator_variables = self.discriminator.init(keys[1], images)
        beta1, beta2 = (ends(config.generator_optimizer.hyperparameter(name))[0] for name in ("beta1", "beta2"))
        self.generator_optimizer = optax.adam(ends(config.generator_optimizer.learning_rate)[0], beta1, beta2)
        self.discriminator_optimizer = optax.adam(ends(config.discriminator_optimizer.learning_rate)[0], beta1, beta2)
        # On one device by name, as the batches are: else the second step would be compiled anew.
        self.generator_variables = self._put(generator_variables)
        self.discriminator_variables = self._put(discriminator_variables)
        self.generator_optimizer_state = self._put(self.generator_optimizer.init(generator_variables["params"]))
        self.discriminator_optimizer_state = self._put(
            self.discriminator_optimizer.init(discriminator_variables["params"])
        )
        self._update_discriminator = jax.jit(self._discriminator_step)
        self._update_generator = jax.jit(self._generator_step)

    def step(self, batch: Batch, draws: Draws) -> dict[str, Array]:
        """Run one step; the schedules stay at their first values. The scalars stay on the device until read."""
        with jax.default_matmul_precision("tensorfloat32" if self.config.training.precision == "tf32" else "highest"):
            for update in range(self.config.objective.discriminator_updates):
                self.discriminator_variables, self.discriminator_optimizer_state, scalars = self._update_discriminator(
                    self.discriminator_variables,
                    self.discriminator_optimizer_state,
                    self.generator_variables,
                    self._put(batch.images[update]),
                    self._put(draws.latents[update]),
                )
            self.generator_variables, self.discriminator_variables, self.generator_optimizer_state, loss = (
                self._update_generator(
                    self.generator_variables,
                    self.generator_optimizer_state,
                    self.discriminator_variables,
                    self._put(batch.images[-1]),
                    self._put(draws.latents[-1]),
                )
            )
        return {**scalars, "generator_loss": loss}

    def wait(self) -> None:
        """Return when the device has finished."""
        jax.block_until_ready((self.generator_variables, self.discriminator_variables, self.generator_optimizer_state))

    def versions(self) -> dict[str, str]:
        """Return the versions and the device."""
        return {
            "jax": jax.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "numpy": np.__version__,
            "device": self.device.device_kind,
        }

    def _put(self, values: Any) -> Any:
        """Copy an array, or a tree of them, to the device."""
        return jax.device_put(values, self.device)

    def _discriminator_step(
        self, variables: Variables, optimizer_state: Any, generator: Variables, images: Array, latents: Array
    ) -> tuple[Variables, Any, dict[str, Array]]:
        """Make fakes and move the discriminator down its loss."""
        reals = _to_float(images)
        fakes, _ = _apply(self.generator, generator, latents)

        def loss_of(params: Any) -> tuple[Array, tuple[Variables, dict[str, Array]]]:
            current = {**variables, "params": params}
            if self.config.objective.loss == "relativistic":
                real, real_slope = self._discriminate(current, reals)
                fake, fake_slope = self._discriminate(current, fakes)
                value = jax.nn.softplus(fake - real).mean()
                penalty = self.gamma / 2 * (real_slope + fake_slope)
            else:
                real, current = _apply(self.discriminator, current, reals)
                fake, current = _apply(self.discriminator, current, fakes)
                value = (
                    optax.sigmoid_binary_cross_entropy(real, jnp.ones_like(real)).mean()
                    + optax.sigmoid_binary_cross_entropy(fake, jnp.zeros_like(fake)).mean()
                )
                penalty = jnp.zeros(())
            scalars = {
                "discriminator_loss": value,
                "penalty": penalty,
                "real_logit": real.mean(),
                "fake_logit": fake.mean(),
            }
            return value + penalty, (current, scalars)

        (_, (current, scalars)), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        updates, optimizer_state = self.discriminator_optimizer.update(gradients, optimizer_state)
        params = optax.apply_updates(variables["params"], updates)
        return {**current, "params": params}, optimizer_state, scalars

    def _generator_step(
        self, variables: Variables, optimizer_state: Any, discriminator: Variables, images: Array, latents: Array
    ) -> tuple[Variables, Variables, Any, Array]:
        """Make fakes and move the generator down its loss."""

        def loss_of(params: Any) -> tuple[Array, tuple[Variables, Variables]]:
            fakes, current = _apply(self.generator, {**variables, "params": params}, latents)
            logits, moved = _apply(self.discriminator, discriminator, fakes)
            if self.config.objective.loss == "relativistic":
                real, moved = _apply(self.discriminator, moved, _to_float(images))
                return jax.nn.softplus(real - logits).mean(), (current, moved)
            losses = optax.sigmoid_binary_cross_entropy(logits, jnp.ones_like(logits))
            return losses.mean(), (current, moved)

        (loss, (current, moved)), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        updates, optimizer_state = self.generator_optimizer.update(gradients, optimizer_state)
        params = optax.apply_updates(variables["params"], updates)
        return {**current, "params": params}, moved, optimizer_state, loss

    def _discriminate(self, variables: Variables, images: Array) -> tuple[Array, Array]:
        """Return the logits (batch,) and the mean squared norm of their gradients at their images."""

        def summed(images: Array) -> tuple[Array, Array]:
            logits, _ = _apply(self.discriminator, variables, images)
            return logits.sum(), logits

        gradients, logits = jax.grad(summed, has_aux=True)(images)
        return logits, jnp.square(gradients).sum((1, 2, 3)).mean()


def _apply(network: nn.Module, variables: Variables, x: Array) -> tuple[Array, Variables]:
    """Apply a network in training mode; return its output and the variables with statistics moved on."""
    output, moved = network.apply(variables, x, mutable=["batch_stats"])
    return output, {**variables, **moved}


def _to_float(images: Array) -> Array:
    """Map uint8 images to [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1
