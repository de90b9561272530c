"""VGG decoder: a generator of images from the features of a VGG16 (Dosovitskiy and Brox 2016, arXiv:1602.02644).

It inverts the features in the blocks of a DCGAN, beginning with their map. The latent and an embedding of the label, if
there are any, are repeated at every position beside the features.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_shared.architecture import LABEL_FEATURES, vgg_decoder_plan
from gan_torch.layers import OUTPUTS, ConvTranspose, Embedding
from gan_torch.models.dcgan import LABEL, WEIGHT, Stage, UpStage


class Generator(nn.Module):
    """Features of an image to an image.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        layer: of the VGG16 whose features these are.
        features: their number at every position.
        num_classes: number of classes; 0 for images without labels.
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
        num_classes: int = 0,
        activation: str = "relu",
        output: str = "tanh",
    ) -> None:
        super().__init__()
        start, sizes = vgg_decoder_plan(layer, resolution, width)
        self.embedding = Embedding(num_classes, LABEL_FEATURES, LABEL) if num_classes else None
        input_size = features + latent_size + (LABEL_FEATURES if num_classes else 0)
        self.flat = layer == "fc6"
        self.stem = (
            UpStage(input_size, sizes[0], kernel_size=start, stride=1, padding=0, activation=activation)
            if self.flat
            else Stage(input_size, sizes[0], activation)
        )
        self.stages = nn.ModuleList([UpStage(low, high, activation=activation) for low, high in pairwise(sizes)])
        self.image = ConvTranspose(sizes[-1], channels, 4, WEIGHT, stride=2, padding=1)
        self.output = OUTPUTS[output]

    def forward(self, latents: Tensor, labels: Tensor | None = None, image_condition: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent), labels (batch,) and features to images (batch, height, width, channel)."""
        assert image_condition is not None, "a generator from features needs them"
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels).to(latents.dtype)], 1)
        x = image_condition[:, :, None, None] if self.flat else image_condition
        repeated = latents[:, :, None, None].expand(-1, -1, *x.shape[2:])
        x = self.stem(torch.cat([x, repeated], 1))
        for stage in self.stages:
            x = stage(x)
        return self.output(self.image(x))
