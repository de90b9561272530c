"""Named recipes, each the difference from ``Config``'s defaults, with its source."""

from gan_shared.config import Config
from gan_shared.errors import unexpected

PRESETS: dict[str, Config] = {
    # Radford et al. 2016 (arXiv:1511.06434), at the size of small digits. 2,000 steps of 64 images are
    # 26 epochs of mnist-5k. No published number: it is here to be tried.
    "dcgan": Config(preset="dcgan"),
    # The work of the PyTorch project's DCGAN example: 64x64 RGB, 100 latents, 64 channels at the widest image,
    # Adam 2e-4 with beta1 0.5, batch 64, and one set of fakes for both updates. The example counts epochs of the
    # user's data; 25,000 steps are this project's choice.
    "dcgan-64": Config(preset="dcgan-64", resolution=64, channels=3, fresh_latents=False, steps=25000),
}


def find(name: str) -> Config:
    """Return the preset called ``name``.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in PRESETS:
        raise unexpected("preset", repr(name), "a known preset", PRESETS)
    return PRESETS[name]
