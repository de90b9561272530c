"""Network families: what each of them can be built as, in one table.

Their constructors are in ``gan_torch/models`` and ``gan_jax/models``, their sizes in ``architecture.py``.
"""

from typing import NamedTuple

from gan_shared.errors import unexpected

# Normalisations of a discriminator. Spectral normalisation divides weights, batch normalisation scales activations.
NORMS = ("none", "batch", "spectral")


class Family(NamedTuple):
    """What a network family can be built as.

    Attributes:
        resolutions: heights and widths of its images in pixels, ascending.
        roles: ``generator``, ``discriminator`` or both.
        norms: what its discriminator can be normalised by; empty where it has no discriminator.
        default_norm: which of them it has when none is asked for.
        image_conditional: whether its generator makes images from an image condition (``image_conditions.py``).
        smallest_batch: fewest images that its generator can be trained with: two where batch normalisation gets one
            value of each image.
    """

    resolutions: tuple[int, ...]
    roles: tuple[str, ...] = ("generator", "discriminator")
    norms: tuple[str, ...] = NORMS
    default_norm: str = "none"
    image_conditional: bool = False
    smallest_batch: int = 1


# Smallest maps of the convolutional families, in pixels, and their images: doublings of one of them.
STARTS = (4, 5, 6, 7)
DOUBLED = tuple(
    sorted(start << doublings for start in STARTS for doublings in range(1, 8) if start << doublings <= 512)
)

FAMILIES = {
    "dcgan": Family(DOUBLED, default_norm="batch"),
    # DCGAN with categorical latents, a mapping network and a residual block in the generator, and a hidden layer in the
    # discriminator.
    "dcgan-deep": Family(DOUBLED, default_norm="batch", smallest_batch=2),
    "resnet": Family((16, 32, 64, 128)),
    "inception": Family((16, 32, 64, 128), default_norm="spectral"),
    # Its penalties and the scale of its residual blocks are made for networks without batch normalisation.
    "r3gan": Family((32, 64, 128, 256), norms=("none", "spectral")),
    "r3gan-tiny": Family((16, 32, 64, 128), norms=("none", "spectral")),
    "vgg-decoder": Family((32, 64, 128, 224, 256), roles=("generator",), norms=(), image_conditional=True),
    "patch": Family(tuple(size for size in DOUBLED if size >= 16), roles=("discriminator",), default_norm="batch"),
}


def families_of(role: str) -> tuple[str, ...]:
    """Return the names of the families that can be ``generator`` or ``discriminator``."""
    return tuple(name for name, family in FAMILIES.items() if role in family.roles)


def check_resolution(family: str, resolution: int) -> None:
    """Refuse a resolution (pixels) that a family has no plan for.

    Raises:
        UserError: listing those that it has.
    """
    choices = FAMILIES[family].resolutions
    if resolution not in choices:
        raise unexpected("resolution", resolution, f"a size that {family} makes", choices)


def check_norm(family: str, norm: str) -> None:
    """Refuse a normalisation that a family's discriminator cannot have.

    Raises:
        UserError: listing those that it can have.
    """
    choices = FAMILIES[family].norms
    if norm not in choices:
        raise unexpected("discriminator_norm", norm, f"one that {family} can have", choices)
