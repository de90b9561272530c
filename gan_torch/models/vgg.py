"""VGG16 (Simonyan and Zisserman 2015, arXiv:1409.1556), and the generator that makes an image from its features.

The features are those of torchvision's vgg16, whose names and layouts its tensors have. The generator inverts them as
Dosovitskiy and Brox do (2016, arXiv:1602.02644), in the blocks of a DCGAN: it begins at the map of the features, beside
which it may read a latent and an embedding of the label, the same at every position.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gan_shared.architecture import LABEL_FEATURES, vgg_decoder_plan, vgg_plan
from gan_shared.initial import ZEROS
from gan_shared.vgg16 import DEVIATION, MEAN, weight_initial
from gan_torch.layers import ACTIVATIONS, OUTPUTS, BatchNorm, Conv, ConvTranspose, Embedding, Linear, max_pool, relu
from gan_torch.models.dcgan import LABEL, SCALE, WEIGHT, UpStage


class Vgg16(nn.Module):
    """VGG16 up to a layer; frozen, without dropout, and in the type of its input.

    Args:
        layer: relu1_1 to relu5_3, or fc6, which is rectified as well.
        width: factor on every channel count.
        recompute: whether each image's activations are computed again where gradients need them, instead of kept.
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
        """Map images (batch, height, width, colour) that are normalised to features.

        Returns:
            (batch, height', width', channel), or (batch, feature) for fc6, which reads images of 224 pixels.
        """
        if not self.recompute:
            return self._look(images)
        # One image at a time: no two of them meet here, and the maps of one are a fraction of those of all.
        seen = [checkpoint(self._look, x, use_reentrant=False, preserve_rng_state=False) for x in images.split(1)]
        return torch.cat(seen)  # type: ignore[arg-type]

    def _look(self, x: Tensor) -> Tensor:
        """Compute the features of images, all their maps at once."""
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


class Stage(nn.Module):
    """Convolution that keeps height and width, batch normalisation, activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        activation: name of the activation.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str = "relu") -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, 3, WEIGHT, padding=1)
        self.norm = BatchNorm(out_channels, SCALE)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, height, width, in channels) to (batch, height, width, out channels)."""
        return self.activation(self.norm(self.conv(x)))


class Generator(nn.Module):
    """Features of a picture to an image.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        layer: which features are read.
        features: their number at every position.
        classes: number of labels; 0 for images without.
        activation: name of the activation of every stage.
        output: name of the function that ends the network.
    """

    def __init__(
        self,
        resolution: int,
        channels: int,
        latent_size: int,
        width: float = 1.0,
        *,
        layer: str = "relu4_3",
        features: int = 512,
        classes: int = 0,
        activation: str = "relu",
        output: str = "tanh",
    ) -> None:
        super().__init__()
        start, sizes = vgg_decoder_plan(layer, resolution, width)
        self.embedding = Embedding(classes, LABEL_FEATURES, LABEL) if classes else None
        read = features + latent_size + (LABEL_FEATURES if classes else 0)
        self.flat = layer == "fc6"
        self.stem = (
            UpStage(read, sizes[0], kernel_size=start, stride=1, padding=0, activation=activation)
            if self.flat
            else Stage(read, sizes[0], activation)
        )
        self.stages = nn.ModuleList([UpStage(low, high, activation=activation) for low, high in pairwise(sizes)])
        self.image = ConvTranspose(sizes[-1], channels, 4, WEIGHT, stride=2, padding=1)
        self.output = OUTPUTS[output]

    def forward(self, latents: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent), labels (batch,) and features to images (batch, height, width, channel)."""
        assert condition is not None, "a generator of features needs them"
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels).to(latents.dtype)], 1)
        x, told = condition[:, :, None, None] if self.flat else condition, latents[:, :, None, None]
        x = self.stem(torch.cat([x, told.expand(-1, -1, *x.shape[2:])], 1))
        for stage in self.stages:
            x = stage(x)
        return self.output(self.image(x))
