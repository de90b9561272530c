"""What a generator is told of pictures, computed on the device: VGG16 features, or the level below of a pyramid."""

from torch import Tensor, nn

from gan_shared.config import Config
from gan_torch.layers import average_pool, upsample_nearest
from gan_torch.models.vgg import normalize
from gan_torch.state import compute_dtype


def nothing(config: Config, vgg: nn.Module | None, images: Tensor) -> None:
    """Tell nothing."""


def features(config: Config, vgg: nn.Module | None, images: Tensor) -> Tensor:
    """Return what VGG16 sees in images (batch, height, width, channel), in their type."""
    assert vgg is not None, "a run whose generator reads features has a VGG16"
    low = config.lowest_pixel
    seen = normalize((images - low) / (1 - low))
    return vgg(seen.to(compute_dtype(config))).to(images.dtype)


def level(config: Config, vgg: nn.Module | None, images: Tensor) -> Tensor:
    """Return the level below of images (batch, height, width, channel) of any level, enlarged to this run's size."""
    return upsample_nearest(lowered(images, config.resolution // 2))


def lowered(images: Tensor, size: int) -> Tensor:
    """Average blocks of images (batch, height, width, channel) until they are no higher and wider than ``size``."""
    while images.shape[-1] > size:
        images = average_pool(images)
    return images


CONDITIONS = {"none": nothing, "vgg16": features, "level": level}
