"""Sizes of the networks: what both twins must agree on before a tensor exists."""

from math import log2
from typing import NamedTuple

from gan_shared.config import RESOLUTIONS
from gan_shared.errors import unexpected

# Radford et al. 2016 double the channels with every halving of the image, from 64 at the widest image to 512;
# deeper networks (128 pixels and more) stay at 512.
DCGAN_CHANNELS = 64
DCGAN_MAX_CHANNELS = 512


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
    if resolution not in RESOLUTIONS["dcgan"]:
        raise unexpected("resolution", resolution, "a size that dcgan makes", RESOLUTIONS["dcgan"])
    start = 7 if resolution == 28 else 4
    doublings = int(log2(resolution // start))
    full = [min(DCGAN_CHANNELS * 2**i, DCGAN_MAX_CHANNELS) for i in reversed(range(doublings))]
    return DcganPlan(start, tuple(scaled(channels, width) for channels in full))


def scaled(channels: int, width: float) -> int:
    """Multiply a channel count by ``width``, to the nearest whole number and at least 1."""
    return max(1, round(channels * width))
