"""Sizes of the networks: what both twins must agree on before a tensor exists."""

from math import log2
from typing import NamedTuple

from gan_shared.families import STARTS, check_resolution

# Radford et al. 2016 double the channels with every halving of the image, from 64 at the widest image to 512;
# deeper networks (128 pixels and more) stay at 512.
DCGAN_CHANNELS = 64
DCGAN_MAX_CHANNELS = 512
# Where few halvings lead to a logit, it is a sum of what small parts of the image look like: digits of good strokes in
# wrong places are taken for real. A layer over the whole of the smallest map mends that, and residual blocks at the
# generator's smallest map are where an image is laid out. With categorical latents and a mapping network more of the
# digits are legible (docs/quality-search.md). Plan -> categorical latents at most, features of the mapping network's
# layers, blocks, length of the layer.
DCGAN_DEPTH: dict[str, tuple[int, tuple[int, ...], int, int]] = {
    "dcgan": (0, (), 0, 0),
    "dcgan-deep": (4, (1024, 512), 1, 512),
}
# Categories of a categorical latent, and the inverse of the temperature of its softmax.
CATEGORIES, SHARPNESS = 8, 4.0

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

# Simonyan and Zisserman 2015 (arXiv:1409.1556), configuration D, as torchvision's vgg16 numbers it: name of a rectified
# layer -> (place in ``features``, input channels, output channels). Blocks end in a halving of the map.
VGG_CONVOLUTIONS = {
    "relu1_1": (0, 3, 64),
    "relu1_2": (2, 64, 64),
    "relu2_1": (5, 64, 128),
    "relu2_2": (7, 128, 128),
    "relu3_1": (10, 128, 256),
    "relu3_2": (12, 256, 256),
    "relu3_3": (14, 256, 256),
    "relu4_1": (17, 256, 512),
    "relu4_2": (19, 512, 512),
    "relu4_3": (21, 512, 512),
    "relu5_1": (24, 512, 512),
    "relu5_2": (26, 512, 512),
    "relu5_3": (28, 512, 512),
}
# The first fully connected layer maps a feature map of this height and width to so many features.
VGG_TOP, VGG_HIDDEN = 7, 4096
# The size of the images that the published VGG16 was trained on.
VGG_RESOLUTION = 224

# A level of a LAPGAN (Denton et al. 2015, arXiv:1506.05751): channels of its maps, which have the size of the image,
# and how many of them there are. The paper has as few layers; the numbers and batch normalisation are this project's.
LAPGAN_CHANNELS, LAPGAN_LAYERS = 64, 3

# Isola et al. 2017 (arXiv:1611.07004), section 6.1.2: C64-C128-C256-C512; the last of them does not halve, as in their
# code. Halvings stop before a map of less than 4x4, so that there are 2x2 logits or more.
PATCH_CHANNELS, PATCH_HALVINGS, PATCH_SMALLEST = 64, 3, 4

# Length of the class embedding that is a part of a generator's input.
LABEL_FEATURES = 64


class DcganPlan(NamedTuple):
    """Shape of a DCGAN pair.

    Attributes:
        start: height and width (pixels) of the smallest feature map.
        channels: channels of every feature map, from the smallest to the largest.
    """

    start: int
    channels: tuple[int, ...]


class DcganDepth(NamedTuple):
    """What a DCGAN pair has beside the layers of its plan.

    Attributes:
        categorical: how many categorical latents are made from normal ones.
        mapping: features of the layers between the latents and the generator's smallest map.
        blocks: residual blocks at the generator's smallest map.
        hidden: length of the layer between the discriminator's smallest map and its logit; 0 for none.
    """

    categorical: int
    mapping: tuple[int, ...]
    blocks: int
    hidden: int


def dcgan_depth(plan: str, latent_size: int, width: float) -> DcganDepth:
    """Return what a DCGAN pair has beside its convolutions.

    Args:
        plan: ``dcgan`` or ``dcgan-deep``.
        latent_size: length of a latent, which limits how many categorical latents are made from it.
        width: factor on the layers.
    """
    categorical, mapping, blocks, hidden = DCGAN_DEPTH[plan]
    return DcganDepth(
        min(categorical, latent_size // CATEGORIES),
        tuple(scaled(size, width) for size in mapping),
        blocks,
        scaled(hidden, width) if hidden else 0,
    )


def categorical_latents(generator: str, latent_size: int) -> int:
    """Return how many categorical latents a generator makes from its first latents, CATEGORIES numbers each.

    Args:
        generator: its name; the networks of the user's own make none.
        latent_size: length of a latent.
    """
    return dcgan_depth(generator, latent_size, 1.0).categorical if generator in DCGAN_DEPTH else 0


def dcgan_plan(resolution: int, width: float) -> DcganPlan:
    """Lay out a DCGAN for images of ``resolution`` pixels.

    Args:
        resolution: 4, 5, 6 or 7 times a power of two, from 8 to 512.
        width: factor on every channel count; at least one channel remains.

    Raises:
        UserError: the resolution is none of these.
    """
    check_resolution("dcgan", resolution)
    start = next(start for start in STARTS if resolution % start == 0 and (resolution // start).bit_count() == 1)
    doublings = int(log2(resolution // start))
    full = [min(DCGAN_CHANNELS * 2**i, DCGAN_MAX_CHANNELS) for i in reversed(range(doublings))]
    return DcganPlan(start, tuple(scaled(channels, width) for channels in full))


class VggPlan(NamedTuple):
    """Shape of a VGG16 up to a layer.

    Attributes:
        blocks: convolutions between two halvings: (place in ``features``, input channels, output channels) of each.
        hidden: input and output length of the first fully connected layer, or None where it is not reached.
    """

    blocks: tuple[tuple[tuple[int, int, int], ...], ...]
    hidden: tuple[int, int] | None

    @property
    def features(self) -> int:
        """Length of the result, or its channels where it is a map."""
        return self.hidden[1] if self.hidden else self.blocks[-1][-1][2]


def vgg_plan(layer: str, width: float = 1.0) -> VggPlan:
    """Lay out a VGG16 up to ``layer``.

    Args:
        layer: relu1_1 to relu5_3, or fc6.
        width: factor on every channel count; 1 for the published weights.
    """
    names = list(VGG_CONVOLUTIONS)
    blocks: dict[str, list[tuple[int, int, int]]] = {}
    for name in names if layer == "fc6" else names[: names.index(layer) + 1]:
        place, low, high = VGG_CONVOLUTIONS[name]
        low, high = (channels if channels == 3 else scaled(channels, width) for channels in (low, high))
        blocks.setdefault(name[: len("relu1")], []).append((place, low, high))
    plan = VggPlan(tuple(map(tuple, blocks.values())), None)
    if layer != "fc6":
        return plan
    return plan._replace(hidden=(plan.features * VGG_TOP**2, scaled(VGG_HIDDEN, width)))


def vgg_decoder_plan(layer: str, resolution: int, width: float) -> DcganPlan:
    """Lay out the generator that makes images of ``resolution`` pixels from a VGG16's features.

    Args:
        layer: whose features they are.
        resolution: of the images.
        width: factor on every channel count.

    Returns:
        Size of its smallest map, that of the features (7 for fc6, which is no map), and the channels of its maps, which
        are those of a DCGAN at the same sizes.
    """
    check_resolution("vgg-decoder", resolution)
    halvings = 5 if layer == "fc6" else len(vgg_plan(layer).blocks) - 1
    channels = [min(DCGAN_CHANNELS * 2**i, DCGAN_MAX_CHANNELS) for i in reversed(range(halvings))]
    return DcganPlan(resolution // 2**halvings, tuple(scaled(each, width) for each in channels))


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
    check_resolution("resnet", resolution)
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
    check_resolution("inception", resolution)
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
        plan: ``r3gan`` (the published widths) or ``r3gan-tiny`` (narrow, with one position of the widest map for a
            patch of pixels).
        resolution: one of the plan's.
        width: factor on every channel count, which stays a multiple of half a group so that twice it fills groups.

    Raises:
        UserError: the resolution is none of the plan's.
    """
    check_resolution(plan, resolution)
    patch = R3GAN_PATCHES[plan][resolution]
    stages = [stage for size, stage in R3GAN_STAGES[plan].items() if size <= resolution // patch]
    channels, blocks = (tuple(column) for column in zip(*stages, strict=True))
    half_group = R3GAN_GROUP // 2
    widened = tuple(half_group * scaled(full // half_group, width) for full in channels)
    # LeakyReLU of slope 0.2 halves the second moment but for a factor of 1.04; the root of the depth keeps the sum
    # of all blocks' contributions in proportion.
    gain = (2 / 1.04) ** 0.5 * sum(blocks) ** -0.25
    return R3ganPlan(patch, widened, blocks, gain, max(1, len(blocks) - R3GAN_HALF_STAGES))


class PatchPlan(NamedTuple):
    """Shape of a PatchGAN discriminator, whose last convolution, to the logits, comes after these.

    Attributes:
        channels: output channels of every convolution of 4x4 pixels and padding 1.
        strides: their strides.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]


def patch_plan(resolution: int, width: float) -> PatchPlan:
    """Lay out a PatchGAN discriminator for images of ``resolution`` pixels.

    Args:
        resolution: 4, 5, 6 or 7 times a power of two, from 16 to 512; below 32 there are two halvings instead of three.
        width: factor on every channel count; at least one channel remains.

    Raises:
        UserError: the resolution is none of these.
    """
    check_resolution("patch", resolution)
    halvings = min(PATCH_HALVINGS, int(log2(resolution // PATCH_SMALLEST)))
    channels = tuple(scaled(PATCH_CHANNELS * 2**i, width) for i in range(halvings + 1))
    return PatchPlan(channels, (2,) * halvings + (1,))


def scaled(channels: int, width: float) -> int:
    """Multiply a channel count by ``width``, to the nearest whole number and at least 1."""
    return max(1, round(channels * width))


def check_divisible(what: str, size: int, by: str, divisor: int) -> None:
    """Refuse a size that a layer cannot divide into equal parts.

    Args:
        what: name of the size.
        size: what is divided.
        by: name of the number of parts.
        divisor: the number of parts.

    Raises:
        ValueError: naming both with their values.
    """
    if size % divisor:
        raise ValueError(f"`{what}` (={size}) must be divisible by `{by}` (={divisor})")


def check_convolution(in_channels: int, out_channels: int, groups: int, stride: int) -> None:
    """Refuse a convolution that cannot be built.

    Raises:
        ValueError: channels that do not fill the groups, or a stride beside groups.
    """
    check_divisible("in_channels", in_channels, "groups", groups)
    check_divisible("out_channels", out_channels, "groups", groups)
    if groups > 1 and stride > 1:
        raise ValueError(f"a convolution in groups needs `stride` 1: `groups` (={groups}), `stride` (={stride})")


def check_transposed_convolution(stride: int, output_padding: int) -> None:
    """Refuse a transposed convolution that cannot be built.

    Raises:
        ValueError: rows and columns are added that no input reaches.
    """
    if output_padding >= stride:
        raise ValueError(f"`output_padding` (={output_padding}) must be less than `stride` (={stride})")
