"""VGG16 up to a layer (Simonyan and Zisserman 2015, arXiv:1409.1556): a frozen network that turns images into features.

Equivalent to torchvision.models.vgg16, whose names and layouts its tensors have.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gan_shared.architecture import vgg_plan
from gan_shared.initial import ZEROS
from gan_shared.vgg16 import DEVIATION, MEAN, weight_initial
from gan_torch.layers import Conv, Linear, relu
from gan_torch.resampling import max_pool


class Vgg16(nn.Module):
    """VGG16 up to a layer; frozen, without dropout, and in the type of its input.

    Args:
        layer: relu1_1 to relu5_3, or fc6, which is rectified as well.
        width: factor on every channel count.
        recompute: whether activations are computed again where gradients need them, image by image, instead of kept:
            gradient checkpointing.
    """

    def __init__(self, layer: str, width: float = 1.0, recompute: bool = False) -> None:
        super().__init__()
        self.plan, self.recompute = vgg_plan(layer, width), recompute
        convolutions = [each for block in self.plan.blocks for each in block]
        self.features = nn.ModuleDict(
            {
                str(place): Conv(low, high, 3, weight_initial(9 * low), padding=1, bias_initial=ZEROS)
                for place, low, high in convolutions
            }
        )
        self.classifier = nn.ModuleDict()
        if self.plan.hidden:
            self.classifier["0"] = Linear(*self.plan.hidden, weight_initial(self.plan.hidden[0]), bias_initial=ZEROS)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, height, width, colour) that ``normalize`` has given to features.

        Returns:
            (batch, height', width', channel), or (batch, feature) for fc6, whose images have 224 pixels.
        """
        if not self.recompute:
            return self._features(images)
        # One image at a time, as none depends on another here: the maps of one are a fraction of those of all.
        one_by_one = [
            checkpoint(self._features, x, use_reentrant=False, preserve_rng_state=False) for x in images.split(1)
        ]
        return torch.cat(one_by_one)  # type: ignore[arg-type]

    def _features(self, x: Tensor) -> Tensor:
        """Compute the features of all images at once."""
        for i, block in enumerate(self.plan.blocks):
            x = max_pool(x) if i else x
            for place, _, _ in block:
                x = relu(self.features[str(place)](x))
        return relu(self.classifier["0"](max_pool(x).flatten(1))) if self.plan.hidden else x


def normalize(images: Tensor) -> Tensor:
    """Bring images (batch, height, width, 1 or 3) from 0 to 1 to the colours that torchvision's weights expect.

    They are centred and scaled by ImageNet's mean and deviation; grey is taken as three equal colours.
    """
    # Filled, as a list of numbers would be copied to the device, and the copy waits for it.
    centred = [
        (images[:, i % images.shape[1]] - mean) / deviation
        for i, (mean, deviation) in enumerate(zip(MEAN, DEVIATION, strict=True))
    ]
    return torch.stack(centred, 1)
