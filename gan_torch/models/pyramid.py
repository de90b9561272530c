"""A level of a pyramid: the generator of the detail that the level below, enlarged, lacks (Denton et al. 2015).

arXiv:1506.05751, section 3.2: the latent becomes one more plane beside the enlarged image, and what the network makes
is added to that image, so that the discriminator, which is that of any other GAN, judges the sum. The lowest level has
no level below: it is an ordinary GAN.
"""

import torch
from torch import Tensor, nn

from gan_shared.architecture import LABEL_FEATURES, PYRAMID_CHANNELS, PYRAMID_LAYERS, scaled
from gan_torch.layers import Conv, Embedding, Linear
from gan_torch.models.dcgan import LABEL, WEIGHT
from gan_torch.models.vgg import Stage


class Generator(nn.Module):
    """The level below, enlarged, to the image of this level.

    Args:
        resolution: height and width of the images.
        channels: channels of the images.
        latent_size: length of a latent; 0 for none.
        width: factor on every channel count.
        classes: number of labels; 0 for images without.
        activation: name of the activation of every layer.
    """

    def __init__(
        self,
        resolution: int,
        channels: int,
        latent_size: int,
        width: float = 1.0,
        *,
        classes: int = 0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        hidden, read = scaled(PYRAMID_CHANNELS, width), latent_size + (LABEL_FEATURES if classes else 0)
        self.embedding = Embedding(classes, LABEL_FEATURES, LABEL) if classes else None
        self.plane = Linear(read, resolution**2, WEIGHT) if read else None
        sizes = [channels + (1 if read else 0), *[hidden] * (PYRAMID_LAYERS - 1)]
        self.stages = nn.ModuleList([Stage(size, hidden, activation) for size in sizes])
        self.detail = Conv(hidden, channels, 3, WEIGHT, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Map latents (batch, latent), labels (batch,) and images (batch, height, width, channel) to images."""
        assert condition is not None, "a level of a pyramid needs the level below"
        x = condition
        if self.embedding is not None:
            latents = torch.cat([latents, self.embedding(labels).to(latents.dtype)], 1)
        if self.plane is not None:
            x = torch.cat([x, self.plane(latents).view(-1, 1, *x.shape[2:])], 1)
        for stage in self.stages:
            x = stage(x)
        return condition + self.detail(x)
