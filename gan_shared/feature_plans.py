"""The networks that evaluation takes features from, without tensors: their convolutions, in order and by name.

Names are the published ones, shapes are in torch's layout. A batch normalisation behind a convolution is folded into it
when weights are converted (``feature_weights.py``), so that here every convolution has a bias and none is normalised.
EfficientNet-Lite0 and Inception come from TensorFlow: zeros are added to an image as it does.
"""

from collections.abc import Iterator
from typing import NamedTuple

from gan_shared.architecture import VGG_HIDDEN, VGG_TOP, vgg_plan

# Added to the variance by the batch normalisations of both networks; torch's default is a hundredth of it.
EPSILON = 1e-3


class Convolution(NamedTuple):
    """A convolution with a bias.

    Attributes:
        name: of its tensors, without ``.weight`` and ``.bias``.
        norm: the name of the batch normalisation that is folded into it.
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: height and width.
        stride: step between two outputs, in input pixels.
        same: whether zeros are added as ``same_padding`` says; otherwise there are none.
        groups: parts of the channels that are convolved apart from each other: 1, or one for each channel.
    """

    name: str
    norm: str
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: int = 1
    same: bool = True
    groups: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the kernel in torch's layout."""
        return (self.outputs, self.inputs // self.groups, *self.kernel)


class Pool(NamedTuple):
    """Pooling of 3x3 pixels. What lies beyond the border takes no part, in averages neither.

    Attributes:
        average: whether the mean is taken, otherwise the largest.
        stride: 1, which keeps height and width, or 2 without a border, for the largest.
    """

    average: bool = False
    stride: int = 1


class Branches(NamedTuple):
    """Paths that all begin at the same input, and whose outputs are concatenated along the channels.

    Attributes:
        paths: the steps of each.
    """

    paths: "tuple[tuple[Step, ...], ...]"


Step = Convolution | Pool | Branches


class InvertedResidual(NamedTuple):
    """A block of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), without squeeze-and-excitation.

    Attributes:
        expand: 1x1, to more channels; None where the block does without.
        depthwise: of each channel by itself.
        project: 1x1, to fewer channels, and not rectified.
    """

    expand: Convolution | None
    depthwise: Convolution
    project: Convolution

    @property
    def residual(self) -> bool:
        """Whether the block's input is added to its output."""
        inputs = (self.expand or self.depthwise).inputs
        return self.depthwise.stride == 1 and inputs == self.project.outputs


class Linear(NamedTuple):
    """A linear layer.

    Attributes:
        name: of its tensors, without ``.weight`` and ``.bias``.
        inputs: length of an input.
        outputs: length of an output.
    """

    name: str
    inputs: int
    outputs: int


class FeaturePlan(NamedTuple):
    """What of a network has tensors.

    Attributes:
        convolutions: in the order in which they are computed.
        linears: behind them.
    """

    convolutions: tuple[Convolution, ...]
    linears: tuple[Linear, ...]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many zeros are added before and after ``size`` pixels: TensorFlow's padding SAME.

    The output has size / stride pixels, rounded up; of an odd number of zeros the larger part is added after.
    """
    outputs = -(-size // stride)
    zeros = max((outputs - 1) * stride + kernel - size, 0)
    return zeros // 2, zeros - zeros // 2


# EfficientNet-Lite0 (TensorFlow TPU models, efficientnet/lite; Tan and Le 2019, arXiv:1905.11946, table 1): repeats,
# kernel, stride of the first, expansion, output channels.
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LITE0_STEM = Convolution("_conv_stem", "_bn0", 3, 32, (3, 3), stride=2)
LITE0_HEAD = Convolution("_conv_head", "_bn1", 320, 1280, (1, 1))
LITE0_CLASSIFIER = Linear("_fc", 1280, 1000)


def _inverted_residual(name: str, inputs: int, outputs: int, kernel: int, stride: int, ratio: int) -> InvertedResidual:
    """Return a block whose depthwise convolution has ``ratio`` times the input's channels."""
    hidden = ratio * inputs
    expand = Convolution(f"{name}._expand_conv", f"{name}._bn0", inputs, hidden, (1, 1))
    return InvertedResidual(
        expand if ratio > 1 else None,
        Convolution(f"{name}._depthwise_conv", f"{name}._bn1", hidden, hidden, (kernel, kernel), stride, groups=hidden),
        Convolution(f"{name}._project_conv", f"{name}._bn2", hidden, outputs, (1, 1)),
    )


def _lite0_blocks() -> Iterator[InvertedResidual]:
    """Yield the blocks of all stages; the first of a stage has its stride and changes the channels."""
    number, inputs = 0, LITE0_STEM.outputs
    for repeats, kernel, stride, ratio, outputs in LITE0_STAGES:
        for place in range(repeats):
            yield _inverted_residual(f"_blocks.{number}", inputs, outputs, kernel, stride if place == 0 else 1, ratio)
            number, inputs = number + 1, outputs


LITE0_BLOCKS = tuple(_lite0_blocks())


# A convolution of a block: name, output channels, kernel, stride.
Layer = tuple[str, int, tuple[int, int], int]


def _chain(block: str, inputs: int, *layers: Layer) -> tuple[Convolution, ...]:
    """Return convolutions that follow each other; zeros are added to the input of those with stride 1 alone."""
    result = []
    for name, outputs, kernel, stride in layers:
        path = f"{block}{name}"
        result.append(Convolution(f"{path}.conv", f"{path}.bn", inputs, outputs, kernel, stride, same=stride == 1))
        inputs = outputs
    return tuple(result)


def _pooled(block: str, inputs: int, outputs: int, average: bool = True) -> tuple[Step, ...]:
    """Return the path that pools before a 1x1 convolution."""
    return (Pool(average), *_chain(block, inputs, ("branch_pool", outputs, (1, 1), 1)))


def _block_35(name: str, inputs: int, pooled: int) -> Branches:
    """Return a block that keeps 35x35 maps (Szegedy et al. 2016, figure 5, with 5x5 kernels)."""
    block = f"{name}."
    five = (("branch5x5_1", 48, (1, 1), 1), ("branch5x5_2", 64, (5, 5), 1))
    double = (
        ("branch3x3dbl_1", 64, (1, 1), 1),
        ("branch3x3dbl_2", 96, (3, 3), 1),
        ("branch3x3dbl_3", 96, (3, 3), 1),
    )
    return Branches(
        (
            _chain(block, inputs, ("branch1x1", 64, (1, 1), 1)),
            _chain(block, inputs, *five),
            _chain(block, inputs, *double),
            _pooled(block, inputs, pooled),
        )
    )


def _block_35_to_17(name: str, inputs: int) -> Branches:
    """Return the block that halves 35x35 maps (figure 10)."""
    block = f"{name}."
    double = (
        ("branch3x3dbl_1", 64, (1, 1), 1),
        ("branch3x3dbl_2", 96, (3, 3), 1),
        ("branch3x3dbl_3", 96, (3, 3), 2),
    )
    return Branches(
        (
            _chain(block, inputs, ("branch3x3", 384, (3, 3), 2)),
            _chain(block, inputs, *double),
            (Pool(stride=2),),
        )
    )


def _block_17(name: str, inputs: int, hidden: int) -> Branches:
    """Return a block that keeps 17x17 maps, whose 7x7 kernels are split into rows and columns (figure 6)."""
    block = f"{name}."
    single = (
        ("branch7x7_1", hidden, (1, 1), 1),
        ("branch7x7_2", hidden, (1, 7), 1),
        ("branch7x7_3", 192, (7, 1), 1),
    )
    double = (
        ("branch7x7dbl_1", hidden, (1, 1), 1),
        ("branch7x7dbl_2", hidden, (7, 1), 1),
        ("branch7x7dbl_3", hidden, (1, 7), 1),
        ("branch7x7dbl_4", hidden, (7, 1), 1),
        ("branch7x7dbl_5", 192, (1, 7), 1),
    )
    return Branches(
        (
            _chain(block, inputs, ("branch1x1", 192, (1, 1), 1)),
            _chain(block, inputs, *single),
            _chain(block, inputs, *double),
            _pooled(block, inputs, 192),
        )
    )


def _block_17_to_8(name: str, inputs: int) -> Branches:
    """Return the block that halves 17x17 maps."""
    block = f"{name}."
    three = (("branch3x3_1", 192, (1, 1), 1), ("branch3x3_2", 320, (3, 3), 2))
    seven = (
        ("branch7x7x3_1", 192, (1, 1), 1),
        ("branch7x7x3_2", 192, (1, 7), 1),
        ("branch7x7x3_3", 192, (7, 1), 1),
        ("branch7x7x3_4", 192, (3, 3), 2),
    )
    return Branches((_chain(block, inputs, *three), _chain(block, inputs, *seven), (Pool(stride=2),)))


def _block_8(name: str, inputs: int, average: bool) -> Branches:
    """Return a block that keeps 8x8 maps, where a row and a column share their input (figure 7)."""
    block = f"{name}."

    def fork(layer: str) -> Branches:
        row, column = (f"{layer}a", 384, (1, 3), 1), (f"{layer}b", 384, (3, 1), 1)
        return Branches((_chain(block, 384, row), _chain(block, 384, column)))

    double = (("branch3x3dbl_1", 448, (1, 1), 1), ("branch3x3dbl_2", 384, (3, 3), 1))
    return Branches(
        (
            _chain(block, inputs, ("branch1x1", 320, (1, 1), 1)),
            (*_chain(block, inputs, ("branch3x3_1", 384, (1, 1), 1)), fork("branch3x3_2")),
            (*_chain(block, inputs, *double), fork("branch3x3dbl_3")),
            _pooled(block, inputs, 192, average),
        )
    )


# Inception-v3 as TensorFlow's graph of 2015-12-05 has it, which FID is defined by (Szegedy et al. 2016,
# arXiv:1512.00567). It differs from torchvision's: averages leave the border out, the last block takes the largest
# where all others average, and there are 1008 classes and no auxiliary ones. Names of sizes are those of 299 pixels.
INCEPTION = (
    *_chain("", 3, ("Conv2d_1a_3x3", 32, (3, 3), 2)),
    Convolution("Conv2d_2a_3x3.conv", "Conv2d_2a_3x3.bn", 32, 32, (3, 3), same=False),
    *_chain("", 32, ("Conv2d_2b_3x3", 64, (3, 3), 1)),
    Pool(stride=2),
    *_chain("", 64, ("Conv2d_3b_1x1", 80, (1, 1), 1)),
    Convolution("Conv2d_4a_3x3.conv", "Conv2d_4a_3x3.bn", 80, 192, (3, 3), same=False),
    Pool(stride=2),
    _block_35("Mixed_5b", 192, 32),
    _block_35("Mixed_5c", 256, 64),
    _block_35("Mixed_5d", 288, 64),
    _block_35_to_17("Mixed_6a", 288),
    _block_17("Mixed_6b", 768, 128),
    _block_17("Mixed_6c", 768, 160),
    _block_17("Mixed_6d", 768, 160),
    _block_17("Mixed_6e", 768, 192),
    _block_17_to_8("Mixed_7a", 768),
    _block_8("Mixed_7b", 1280, average=True),
    _block_8("Mixed_7c", 2048, average=False),
)
INCEPTION_CLASSIFIER = Linear("fc", 2048, 1008)


# A classifier of handwritten digits at 32 pixels: convolutions, and whether the largest of 2x2 pixels is kept behind
# each, so that 4x4 maps are left. The published recipes of StackedMNIST count with networks of this kind.
DIGITS = tuple(
    (Convolution(f"conv{number}", f"norm{number}", inputs, outputs, (3, 3)), pooled)
    for number, (inputs, outputs, pooled) in enumerate(
        ((1, 16, True), (16, 32, False), (32, 32, True), (32, 64, True)), start=1
    )
)
DIGITS_HIDDEN, DIGITS_CLASSIFIER = Linear("features", 64 * 4 * 4, 128), Linear("logits", 128, 10)

# VGG16 up to fc6, by torchvision's names: convolutions, and whether the map is halved behind each.
VGG16_PLAN = vgg_plan("relu5_3")
VGG16 = tuple(
    (Convolution(f"features.{place}", "", inputs, outputs, (3, 3)), number == len(block))
    for block in VGG16_PLAN.blocks
    for number, (place, inputs, outputs) in enumerate(block, start=1)
)
VGG16_HIDDEN = Linear("classifier.0", VGG16_PLAN.features * VGG_TOP**2, VGG_HIDDEN)


def _convolutions(steps: tuple[Step, ...]) -> Iterator[Convolution]:
    """Yield the convolutions of steps and of their branches."""
    for step in steps:
        if isinstance(step, Convolution):
            yield step
        elif isinstance(step, Branches):
            for path in step.paths:
                yield from _convolutions(path)


FEATURE_PLANS = {
    "efficientnet-lite0": FeaturePlan(
        (LITE0_STEM, *(each for block in LITE0_BLOCKS for each in block if each is not None), LITE0_HEAD),
        (LITE0_CLASSIFIER,),
    ),
    "inception": FeaturePlan(tuple(_convolutions(INCEPTION)), (INCEPTION_CLASSIFIER,)),
    "digits": FeaturePlan(tuple(each for each, _ in DIGITS), (DIGITS_HIDDEN, DIGITS_CLASSIFIER)),
    "vgg16": FeaturePlan(tuple(each for each, _ in VGG16), (VGG16_HIDDEN,)),
}


def shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Return name and shape, in torch's layout, of every tensor that a network of ``FEATURE_PLANS`` needs."""
    plan, result = FEATURE_PLANS[network], {}
    for convolution in plan.convolutions:
        result |= {f"{convolution.name}.weight": convolution.shape, f"{convolution.name}.bias": (convolution.outputs,)}
    return result | _linear_shapes(plan.linears)


def published_shapes(network: str) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of a network as it is published: with its batch normalisations."""
    plan, result = FEATURE_PLANS[network], {}
    for convolution in plan.convolutions:
        result[f"{convolution.name}.weight"] = convolution.shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            result[f"{convolution.norm}.{part}"] = (convolution.outputs,)
    return result | _linear_shapes(plan.linears)


def _linear_shapes(linears: tuple[Linear, ...]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of the tensors of linear layers."""
    result: dict[str, tuple[int, ...]] = {}
    for name, inputs, outputs in linears:
        result |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return result
