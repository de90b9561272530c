"""The networks that images are compared by: what each is given, in one table; their tensors are in the backends.

EfficientNet-Lite0 and VGG16 were trained on ImageNet's photographs. ``inception`` is the network that FID is defined
by. ``digits`` reads handwritten digits: it was trained to ignore noise, blur and grey, so it counts
modes and does not see noise, blur and grey.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from gan_shared import feature_weights, vgg16
from gan_shared.data.named import STACKED
from gan_shared.errors import unexpected
from gan_shared.paths import expanded
from gan_shared.resize import resize

# Height and width that a border of zeros brings MNIST's images to, as the data layer does.
DIGIT_SIZE, MNIST_SIZE = 32, 28


class FeatureNetwork(NamedTuple):
    """What a network is given and gives back.

    Attributes:
        name: as ``--features`` takes it.
        title: its name in tables.
        distance: what the Frechet distance of its features is called: FID is that of one network alone.
        layer: the layer whose values are the features.
        features: how many of them, of one image, or of each of its channels.
        size: height and width in pixels that images are brought to.
        resize: how; see ``resize.py``.
        offset: what is subtracted from each colour, of pixels from 0 to 255.
        scale: what each colour is divided by then.
        channelwise: whether each channel is an image of its own, in grey; otherwise grey is taken as three colours.
    """

    name: str
    title: str
    distance: str
    layer: str
    features: int
    size: int
    resize: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    channelwise: bool = False

    @property
    def scaling(self) -> str:
        """The scaling of pixels, for the protocol."""
        return f"(x - {list(self.offset)}) / {list(self.scale)}"


FEATURE_NETWORKS = {
    each.name: each
    for each in (
        FeatureNetwork(
            name="efficientnet-lite0",
            title="EfficientNet-Lite0",
            distance="FD (EfficientNet-Lite0)",
            layer="mean of the last map",
            features=1280,
            size=128,
            resize="bicubic",
            offset=(127.0,) * 3,
            scale=(128.0,) * 3,
        ),
        FeatureNetwork(
            name="digits",
            title="digit classifier",
            distance="FD (digit classifier)",
            layer="first linear layer, rectified",
            features=128,
            size=DIGIT_SIZE,
            resize="bicubic",
            offset=(0.0,),
            scale=(255.0,),
            channelwise=True,
        ),
        FeatureNetwork(
            name="inception",
            title="Inception-v3 of 2015-12-05",
            distance="FID",
            layer="pool3",
            features=2048,
            size=299,
            resize="bilinear-tf1",
            offset=(128.0,) * 3,
            scale=(128.0,) * 3,
        ),
        FeatureNetwork(
            name="vgg16",
            title="VGG16",
            distance="FD (VGG16)",
            layer="fc6, rectified",
            features=4096,
            size=224,
            resize="bicubic",
            offset=tuple(255 * mean for mean in vgg16.MEAN),
            scale=tuple(255 * deviation for deviation in vgg16.DEVIATION),
        ),
    )
}
# Which the user may name; without a name see ``default_networks``.
NAMES = tuple(FEATURE_NETWORKS)
# Sets known by name of single grey digits.
DIGIT_SETS = ("mnist-5k", "mnist")


def default_networks(data: str, channels: int | None) -> tuple[str, ...]:
    """Return the names of the networks that images of ``data`` are compared by when none are named.

    Digits are counted where every channel has one of its own.
    """
    digits = data in STACKED or (data in DIGIT_SETS and channels == 1)
    return ("digits", "efficientnet-lite0") if digits else ("efficientnet-lite0",)


def find_networks(names: Iterable[str]) -> list[FeatureNetwork]:
    """Return networks by their names.

    Raises:
        UserError: one is unknown or named twice.
    """
    chosen = list(names)
    for name in chosen:
        if name not in FEATURE_NETWORKS:
            raise unexpected("features", repr(name), "a network that images can be compared by", NAMES)
        if chosen.count(name) > 1:
            raise unexpected("features", f"{name} twice", "each network once")
    return [FEATURE_NETWORKS[name] for name in chosen]


def load_weights(network: FeatureNetwork, file: str | None) -> tuple[dict[str, np.ndarray], str]:
    """Return a network's tensors by name, float32, and the sha256 of their file.

    Args:
        network: which.
        file: of the weights; where the script puts them when None.

    Raises:
        UserError: there is no such file, or it holds another network.
    """
    path = feature_weights.default_path(network.name) if file is None else expanded(file)
    return feature_weights.load(path, network.name)


def prepare(network: FeatureNetwork, images: np.ndarray) -> np.ndarray:
    """Bring images to what a network is given.

    Args:
        network: which.
        images: uint8 (N, H, H, 1 or 3).

    Returns:
        float32 (N, size, size, 3); of a network that takes channels apart (N C, size, size, 1), the channels of an
        image one after the other.
    """
    count, height, _, channels = images.shape
    if network.channelwise:
        images = images.transpose(0, 3, 1, 2).reshape(count * channels, height, height, 1)
    elif channels == 1:
        images = np.repeat(images, 3, axis=3)
    if network.name == "digits" and height == MNIST_SIZE:
        border = (DIGIT_SIZE - MNIST_SIZE) // 2
        images = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)))
    pixels = resize(images, network.size, network.resize)
    return (pixels - np.array(network.offset, np.float32)) / np.array(network.scale, np.float32)


class FeatureSet(NamedTuple):
    """What a network makes of a set of images.

    Attributes:
        features: float32 (N, feature); of a network that takes channels apart those of all channels.
        classes: int64 (N,): the class that each image is taken for; of channels apart the number that their digits
            write.
        confidence: float64 (N,): the probability of that class; of channels apart the least of them.
    """

    features: np.ndarray
    classes: np.ndarray
    confidence: np.ndarray


def join(network: FeatureNetwork, features: np.ndarray, logits: np.ndarray | None, channels: int) -> FeatureSet:
    """Return what was computed of prepared images, as one row per image.

    Args:
        network: which.
        features: (N or N C, feature).
        logits: (N or N C, class); None for a network that has no classes, which is taken for one that has one.
        channels: of the images.
    """
    if logits is None:
        logits = np.zeros((len(features), 1))
    apart = channels if network.channelwise else 1
    exponentials = np.exp(np.float64(logits) - logits.max(1, keepdims=True))
    probabilities = (exponentials.max(1) / exponentials.sum(1)).reshape(-1, apart)
    found = logits.argmax(1).astype(np.int64).reshape(-1, apart)
    return FeatureSet(
        features=features.astype(np.float32).reshape(len(found), -1),
        classes=found @ logits.shape[1] ** np.arange(apart)[::-1],
        confidence=probabilities.min(1),
    )


def batched(images: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield images (n, H, W, C) that come in any portions in portions of ``size``, the last one smaller."""
    waiting: list[np.ndarray] = []
    for portion in images:
        waiting.append(portion)
        while sum(map(len, waiting)) >= size:
            together = np.concatenate(waiting)
            yield together[:size]
            waiting = [together[size:]]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)
