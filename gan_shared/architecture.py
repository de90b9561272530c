"""Sizes of the networks: what both twins must agree on before a tensor exists."""

from math import log2
from typing import NamedTuple

from gan_shared.config import RESOLUTIONS
from gan_shared.errors import unexpected

# Radford et al. 2016 double the channels with every halving of the image, from 64 at the widest image to 512;
# deeper networks (128 pixels and more) stay at 512.
DCGAN_CHANNELS = 64
DCGAN_MAX_CHANNELS = 512

# Miyato et al. 2018, appendix B: channels of the generator's maps from 4x4 up, each twice as high and wide as the
# one before.
RESNET_GENERATOR = {
    16: (256, 256, 256),
    32: (256, 256, 256, 256),
    64: (1024, 512, 256, 128, 64),
    128: (1024, 1024, 512, 256, 128, 64),
}
# The same tables' discriminators: each block's output channels and whether it halves height and width.
RESNET_DISCRIMINATOR = {
    16: ((128, True), (128, True), (128, False), (128, False)),
    32: ((128, True), (128, True), (128, False), (128, False)),
    64: ((64, True), (128, True), (256, True), (512, True), (1024, True)),
    128: ((64, True), (128, True), (256, True), (512, True), (1024, True), (1024, False)),
}

INCEPTION_CHANNELS = 64
INCEPTION_MAX_CHANNELS = 256
# Every branch of a block gives an equal part of its channels.
INCEPTION_BRANCHES = 4

# Huang et al. 2024: height and width of a map -> its channels and its blocks. The tiny plan is narrow.
R3GAN_STAGES = {
    "r3gan": {4: (768, 2), 8: (768, 2), 16: (768, 2), 32: (768, 2), 64: (384, 2), 128: (192, 2), 256: (96, 2)},
    "r3gan-tiny": {4: (96, 1), 8: (64, 2), 16: (64, 1), 32: (64, 1)},
}
# Resolution of the images -> height and width of the square of pixels that one position of the widest map stands for.
R3GAN_PATCHES = {
    "r3gan": {32: 1, 64: 1, 128: 1, 256: 1},
    "r3gan-tiny": {16: 2, 32: 4, 64: 4, 128: 4},
}
# Channels that share one group of the 3x3 convolution, whose channels are twice the block's.
R3GAN_GROUP = 16

# The largest maps, so many, may be computed in bfloat16; the 4x4 map never is.
R3GAN_HALF_STAGES = 4

# Length of the class embedding that a generator reads beside the latent.
LABEL_FEATURES = 64


class DcganPlan(NamedTuple):
    """Shape of a DCGAN pair.

    Attributes:
        start: height and width (pixels) of the smallest feature map.
        channels: channels of every feature map, from the smallest to the largest.
    """

    start: int
    channels: tuple[int, ...]


def dcgan_plan(resolution: int, width: float) -> DcganPlan:
    """Lay out a DCGAN for images of ``resolution`` pixels.

    Args:
        resolution: a power of two from 16 to 256, or 28.
        width: factor on every channel count; at least one channel remains.

    Raises:
        UserError: the resolution is none of these.
    """
    _check_resolution("dcgan", resolution)
    start = 7 if resolution == 28 else 4
    doublings = int(log2(resolution // start))
    full = [min(DCGAN_CHANNELS * 2**i, DCGAN_MAX_CHANNELS) for i in reversed(range(doublings))]
    return DcganPlan(start, tuple(scaled(channels, width) for channels in full))


class ResnetPlan(NamedTuple):
    """Shape of a ResNet pair.

    Attributes:
        generator: channels of the generator's maps, from 4x4 to the image's size.
        discriminator: output channels of each of the discriminator's blocks, and whether it halves the map.
    """

    generator: tuple[int, ...]
    discriminator: tuple[tuple[int, bool], ...]


def resnet_plan(resolution: int, width: float) -> ResnetPlan:
    """Lay out a ResNet pair for images of ``resolution`` pixels.

    Args:
        resolution: a power of two from 16 to 128.
        width: factor on every channel count; at least one channel remains.

    Raises:
        UserError: the resolution is none of these.
    """
    _check_resolution("resnet", resolution)
    generator = tuple(scaled(channels, width) for channels in RESNET_GENERATOR[resolution])
    blocks = tuple((scaled(channels, width), halves) for channels, halves in RESNET_DISCRIMINATOR[resolution])
    return ResnetPlan(generator, blocks)


def inception_plan(resolution: int, width: float) -> tuple[int, ...]:
    """Lay out an Inception pair for images of ``resolution`` pixels.

    Args:
        resolution: a power of two from 16 to 128.
        width: factor on every channel count.

    Returns:
        Channels of every map from 4x4 to the image's size, multiples of the number of branches.

    Raises:
        UserError: the resolution is none of these.
    """
    _check_resolution("inception", resolution)
    doublings = int(log2(resolution // 4))
    full = [min(INCEPTION_CHANNELS * 2**i, INCEPTION_MAX_CHANNELS) for i in reversed(range(doublings + 1))]
    return tuple(INCEPTION_BRANCHES * scaled(channels // INCEPTION_BRANCHES, width) for channels in full)


class R3ganPlan(NamedTuple):
    """Shape of an R3GAN pair.

    Attributes:
        patch: height and width of the square of pixels behind one position of the widest map.
        channels: channels of every map, from 4x4 up.
        blocks: residual blocks at every map, from 4x4 up.
        gain: gain of the first two convolutions of every block.
        half: place, counted from 4x4, of the first map that is computed in bfloat16 where that is asked for.
    """

    patch: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    gain: float
    half: int


def r3gan_plan(plan: str, resolution: int, width: float) -> R3ganPlan:
    """Lay out an R3GAN pair for images of ``resolution`` pixels.

    Args:
        plan: ``r3gan`` (the published widths) or ``r3gan-tiny`` (a narrow pair that reads images in patches).
        resolution: one of the plan's.
        width: factor on every channel count, which stays a multiple of half a group so that twice it fills groups.

    Raises:
        UserError: the resolution is none of the plan's.
    """
    _check_resolution(plan, resolution)
    patch = R3GAN_PATCHES[plan][resolution]
    stages = [stage for size, stage in R3GAN_STAGES[plan].items() if size <= resolution // patch]
    channels, blocks = (tuple(column) for column in zip(*stages, strict=True))
    half_group = R3GAN_GROUP // 2
    widened = tuple(half_group * scaled(full // half_group, width) for full in channels)
    # LeakyReLU of slope 0.2 halves the second moment but for a factor of 1.04; the root of the depth keeps the sum
    # of all blocks' contributions in proportion.
    gain = (2 / 1.04) ** 0.5 * sum(blocks) ** -0.25
    return R3ganPlan(patch, widened, blocks, gain, max(1, len(blocks) - R3GAN_HALF_STAGES))


def check_r3gan_norm(norm: str) -> None:
    """Refuse batch normalisation: R3GAN's penalties and residual scaling are for networks without it.

    Raises:
        UserError: ``norm`` is neither none nor spectral.
    """
    if norm not in ("none", "spectral"):
        raise unexpected("discriminator_norm", norm, "one that r3gan can have", ("none", "spectral"))


def scaled(channels: int, width: float) -> int:
    """Multiply a channel count by ``width``, to the nearest whole number and at least 1."""
    return max(1, round(channels * width))


def _check_resolution(network: str, resolution: int) -> None:
    """Refuse a resolution that the network cannot make."""
    if resolution not in RESOLUTIONS[network]:
        raise unexpected("resolution", resolution, f"a size that {network} makes", RESOLUTIONS[network])
