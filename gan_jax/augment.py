"""Differentiable augmentations of images, in front of the discriminator; their parameters are uniforms from the draws.

Sources: Zhao et al. 2020 (DiffAugment, arXiv:2006.10738) for translation, cutout and colour, and Karras et al. 2020
(ADA, arXiv:2006.06676) for flip, rotation, scale and the one probability that gates each of them.
"""

import math

import jax.numpy as jnp
from jax import Array

from gan_shared.option_groups import AUGMENTATIONS as COUNTS


def augment(names: tuple[str, ...], images: Array, uniforms: Array, probability: Array) -> Array:
    """Apply the named augmentations, each to the images whose gate is below ``probability``.

    An image that no gate lets through comes back bit for bit. The arithmetic is done in the wider type of images and
    uniforms; the result has the images' type.

    Args:
        names: which augmentations; they are applied in the order of the table, whatever their order here.
        images: one batch, with axes batch, height, width, channel.
        uniforms: numbers in [0, 1), (batch, K) for a K that counts those of the whole table: an augmentation's columns
            do not depend on which others are named. The first of its columns is its gate. Unused without names.
        probability: of each augmentation, for each image on its own; a scalar.
    """
    if not names:
        return images
    # A column that does not exist would be an error in torch and the last column in JAX.
    assert set(names) <= set(COUNTS) and uniforms.shape == (len(images), sum(COUNTS.values())), (names, uniforms.shape)
    augmented = images.astype(jnp.promote_types(images.dtype, uniforms.dtype))
    # A scalar tensor takes the other side's type in torch's comparisons; here the wider type would win.
    probability = jnp.asarray(probability, uniforms.dtype)
    first = 0
    for name, count in COUNTS.items():
        if name in names:
            chosen = uniforms[:, first] < probability
            changed = AUGMENTATIONS[name](augmented, uniforms[:, first + 1 : first + count])
            augmented = jnp.where(chosen[:, None, None, None], changed, augmented)
        first += count
    return augmented.astype(images.dtype)


def flip(images: Array, uniforms: Array) -> Array:
    """Swap left and right where the uniform of (batch, 1) is below one half. Equivalent to numpy.flip(axis=width)."""
    return jnp.where(uniforms[:, :, None, None] < 0.5, jnp.flip(images, 2), images)


def crop(images: Array, uniforms: Array) -> Array:
    """Cut the full size out of the image continued by one eighth on each side, mirrored about its edge pixels.

    Equivalent to numpy.pad(mode="reflect") and a random crop. The uniforms, (batch, 2), give the place: vertical,
    horizontal.
    """
    height, width = images.shape[1:3]
    rows, columns = _shifted(uniforms[:, 0], height), _shifted(uniforms[:, 1], width)
    rows, columns = _mirrored(rows, height), _mirrored(columns, width)
    return _pixels(images, rows[:, :, None], columns[:, None, :])


def translate(images: Array, uniforms: Array) -> Array:
    """Shift by whole pixels, up to one eighth of the size each way; zeros come in.

    Equivalent to rand_translation of Zhao et al. (2020). The uniforms, (batch, 2), give it: vertical, horizontal;
    large ones move the image up and left.
    """
    height, width = images.shape[1:3]
    rows, columns = _shifted(uniforms[:, 0], height), _shifted(uniforms[:, 1], width)
    return _pixels(images, rows[:, :, None], columns[:, None, :])


def rotate(images: Array, uniforms: Array) -> Array:
    """Turn about the centre by an angle in [-pi, pi), bilinear, zeros outside; positive is counter-clockwise.

    Equivalent to torchvision.transforms.functional.rotate. The uniform, (batch, 1), gives the angle; one half is no
    turn.
    """
    angle = math.pi * (2 * uniforms[:, 0] - 1)
    return _similarity(images, jnp.cos(angle), jnp.sin(angle))


def scale(images: Array, uniforms: Array) -> Array:
    """Enlarge about the centre by 2 to the power of [-1/2, 1/2), bilinear, zeros outside.

    Equivalent to torchvision.transforms.functional.affine with that scale. The uniform, (batch, 1), gives the exponent;
    one half is no change. (ADA's exponent is normal, with deviation 0.2.)
    """
    shrink = jnp.exp2(0.5 - uniforms[:, 0])
    return _similarity(images, shrink, jnp.zeros_like(shrink))


def cutout(images: Array, uniforms: Array) -> Array:
    """Set a square of half the height and width to 0; what lies beyond the image's edge is lost.

    Equivalent to rand_cutout of Zhao et al. (2020), but 0 is set, not multiplied. The uniforms, (batch, 2), give its
    centre, anywhere on the image: vertical, horizontal.
    """
    height, width = images.shape[1:3]
    rows, columns = _covered(uniforms[:, 0], height), _covered(uniforms[:, 1], width)
    hole = rows[:, :, None] & columns[:, None, :]
    return jnp.where(hole[..., None], 0.0, images)


def brightness(images: Array, uniforms: Array) -> Array:
    """Add up to one half either way; equivalent to rand_brightness of Zhao et al. (2020).

    The uniform, (batch, 1), is what is added plus one half.
    """
    return images + (uniforms[:, :, None, None] - 0.5)


def saturation(images: Array, uniforms: Array) -> Array:
    """Scale each pixel's distance from the mean of its channels; equivalent to rand_saturation of Zhao et al. (2020).

    The factor is twice the uniform, (batch, 1).
    """
    mean = images.mean(3, keepdims=True)
    return (images - mean) * (2 * uniforms[:, :, None, None]) + mean


def contrast(images: Array, uniforms: Array) -> Array:
    """Scale the distance from the mean of the whole image; equivalent to rand_contrast of Zhao et al. (2020).

    On one channel, and where nothing is clamped, equivalent to torchvision.transforms.functional.adjust_contrast too.
    The factor is one half more than the uniform, (batch, 1).
    """
    mean = images.mean((1, 2, 3), keepdims=True)
    return (images - mean) * (uniforms[:, :, None, None] + 0.5) + mean


def _shifted(uniform: Array, size: int) -> Array:
    """Return the places 0 to ``size`` - 1, moved by up to one eighth of ``size`` each way: (batch, size)."""
    limit = (size + 4) // 8  # one eighth, rounded, halves up
    shift = jnp.floor(uniform * (2 * limit + 1)).astype(jnp.int32) - limit
    return jnp.arange(size, dtype=jnp.int32) + shift[:, None]


def _mirrored(places: Array, size: int) -> Array:
    """Fold places up to ``size`` - 1 beyond either end back into 0 to ``size`` - 1, without doubling the ends."""
    last = size - 1
    return last - jnp.abs(last - jnp.abs(places))


def _covered(uniform: Array, size: int) -> Array:
    """Return which of ``size`` places lie in the half of ``size`` about a random centre: (batch, size)."""
    side = (size + 1) // 2
    # An even side has its centre between two places: there is one such centre more than there are places.
    centre = jnp.floor(uniform * (size + 1 - side % 2)).astype(jnp.int32)
    place = jnp.arange(size, dtype=jnp.int32) - (centre - side // 2)[:, None]
    return (place >= 0) & (place < side)


def _similarity(images: Array, cosine: Array, sine: Array) -> Array:
    """Read the image where the matrix ((cosine, -sine), (sine, cosine)) takes each (x, y), counted from the centre.

    Coordinates that should be whole can miss by a rounding error, another one in each framework (cos, sin, exp2), and
    then floor differs by one. Both floors give nearly the same pixel, as bilinear weights are continuous there.
    """
    height, width = images.shape[1:3]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    y = (jnp.arange(height, dtype=cosine.dtype) - middle_y)[:, None]
    x = (jnp.arange(width, dtype=cosine.dtype) - middle_x)[None, :]
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    return _bilinear(images, sine * x + cosine * y + middle_y, cosine * x - sine * y + middle_x)


def _bilinear(images: Array, rows: Array, columns: Array) -> Array:
    """Read between the pixels, at fractional places (batch, height, width); zeros outside.

    Four gathers, whose derivatives of every order are gathers and scatters, which all devices have.
    """
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    upper = _pixels(images, top, left) * (1 - right) + _pixels(images, top, left + 1) * right
    lower = _pixels(images, top + 1, left) * (1 - right) + _pixels(images, top + 1, left + 1) * right
    return upper * (1 - down) + lower * down


def _pixels(images: Array, rows: Array, columns: Array) -> Array:
    """Read whole places that broadcast to (batch, height, width); zeros outside."""
    batch, height, width, channels = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # Outside places wrap around rather than clamp: on a border they would pile up in the derivative's scatter.
    places = ((rows % height) * width + columns % width).reshape(batch, -1, 1)
    flat = images.reshape(batch, -1, channels)
    pixels = jnp.take_along_axis(flat, places, axis=1, mode="promise_in_bounds").reshape(images.shape)
    return jnp.where(inside[..., None], pixels, 0.0)


AUGMENTATIONS = {
    "flip": flip,
    "crop": crop,
    "translate": translate,
    "rotate": rotate,
    "scale": scale,
    "cutout": cutout,
    "brightness": brightness,
    "saturation": saturation,
    "contrast": contrast,
}
