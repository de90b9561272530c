"""LAPGAN: a level of a Laplacian pyramid of GANs (Denton et al. 2015, arXiv:1506.05751).

Section 3.2: the generator of a level makes the detail that the image of the level below, enlarged, lacks. The latent
becomes one more plane beside that image, and the output is added to it, so that the discriminator, which is that of any
other GAN, is applied to the sum. The lowest level has no level below: it is an ordinary GAN.
"""

import torch
from torch import Tensor, nn

from gan_shared.architecture import LABEL_FEATURES, LAPGAN_CHANNELS, LAPGAN_LAYERS, scaled
from gan_torch.layers import Conv, Embedding, Linear
from gan_torch.models.dcgan import LABEL, WEIGHT, Stage


class Generator(nn.Module):
    """The image of the level below, enlarged, to the image of this level.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        num_classes: number of classes; 0 for images without labels.
        activation: name of the activation of every layer.
    """

    def __init__(
        self,
        resolution: int,
        channels: int,
        latent_size: int,
        width: float = 1.0,
        *,
        num_classes: int = 0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        hidden = scaled(LAPGAN_CHANNELS, width)
        input_size = latent_size + (LABEL_FEATURES if num_classes else 0)
        self.embedding = Embedding(num_classes, LABEL_FEATURES, LABEL) if num_classes else None
        self.plane = Linear(input_size, resolution**2, WEIGHT) if input_size else None
        sizes = [channels + (1 if input_size else 0), *[hidden] * (LAPGAN_LAYERS - 1)]
        self.stages = nn.ModuleList([Stage(size, hidden, activation) for size in sizes])
        self.detail = Conv(hidden, channels, 3, WEIGHT, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None, image_condition: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent), labels (batch,) and images (batch, height, width, channel) to images."""
        assert image_condition is not None, "a pyramid level above the lowest needs the one below"
        x = image_condition
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels).to(latents.dtype)], 1)
        if self.plane is not None:
            x = torch.cat([x, self.plane(latents).view(-1, 1, *x.shape[2:])], 1)
        for stage in self.stages:
            x = stage(x)
        return image_condition + self.detail(x)
