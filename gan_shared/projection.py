"""Projection of a picture into the latent space of a generator: which latents make the image most like it.

A few hundred steps of Adam on the latents alone, from several starts at once (Zhu et al. 2016, arXiv:1609.03552; Lipton
and Tripathi 2017, arXiv:1702.04782). Each backend's ``projection.py`` takes the steps; where they begin, how long they
are and which latents are kept is decided here.
"""

from collections.abc import Iterator, Sequence
from math import cos, pi, sqrt
from typing import NamedTuple

import numpy as np

from gan_shared.backend import Inputs
from gan_shared.draws import Stream, sample_labels, sample_latents
from gan_shared.errors import is_whole, unexpected
from gan_shared.image_conditions import is_image_conditional
from gan_shared.latents import MAX_SEED
from gan_shared.sample import TrainedGenerator, generate_images

# Latents that are drawn, of which the best ones are where the search begins.
CANDIDATES, STARTS = 256, 8
# Adam's first learning rate, which falls to 0 as half a cosine, its beta1 and 1 - beta2.
LEARNING_RATE, BETA1, SQUARE_DECAY_COMPLEMENT = 0.3, 0.9, 0.001
# Steps when not given, and between two looks at the images.
STEPS, LOOK_EVERY = 300, 10
# How much longer than sqrt(Z) a latent may be: the length of normal latents has a deviation of 0.7 around that.
MARGIN = 2.0


class Projected(NamedTuple):
    """The best that a projection has found so far.

    Attributes:
        step: how many steps have been taken.
        latents: (Z,), float32 or, of a generator in float64, float64.
        label: the class; None where the generator is not class-conditional.
        image: uint8 (H, W, C), made of them.
        error: root of the mean squared difference from the target, in grey levels from 0 to 255.
    """

    step: int
    latents: np.ndarray
    label: int | None
    image: np.ndarray
    error: float


def project(
    generator: TrainedGenerator,
    target: np.ndarray,
    class_ids: Sequence[int] = (),
    *,
    steps: int = STEPS,
    seed: int = 0,
    ema: bool = True,
    look_every: int = LOOK_EVERY,
) -> Iterator[Projected]:
    """Look for the latents whose image is most like a target, and yield the best so far until all steps are taken.

    The search stops when the caller stops iterating. What it finds follows from its arguments alone.

    Args:
        generator: of latents, and perhaps classes, alone.
        target: uint8 (H, W, C), of the generator's size.
        class_ids: the class that the image has; of several, each start has one, and keeps it. All where there are none.
        steps: of Adam; 0 for the best of the latents that are drawn.
        seed: what the first latents follow from.
        ema: whether the averaged generator makes the images.
        look_every: steps between two yields.

    Raises:
        UserError: the generator is given images, or the target or a number cannot be used.
    """
    backend, state = generator
    config = backend.config
    if is_image_conditional(config):
        raise unexpected("generator", f"{config.networks.generator}, which is given images", "one of latents alone")
    if target.dtype != np.uint8 or target.shape != config.image_shape:
        found, expected = f"{target.dtype} {target.shape}", f"uint8 {config.image_shape}, as the generator makes"
        raise unexpected("target", found, expected)
    for name, value, least in (("steps", steps, 0), ("look_every", look_every, 1), ("seed", seed, 0)):
        if not is_whole(value) or not least <= value <= MAX_SEED:
            raise unexpected(name, value, f"a number from {least} to {MAX_SEED}")
    inputs = _starts(generator, target, tuple(class_ids) or tuple(range(config.num_classes)), seed, ema)
    best = _best(generator, target, inputs, 0, ema)
    yield best
    advance = backend.projector(state, target, inputs, ema)
    for first in range(0, steps, look_every):
        until = min(first + look_every, steps)
        latents = advance([learning_rate(step, steps) for step in range(first, until)])
        found = _best(generator, target, inputs._replace(latents=latents), until, ema)
        best = found if found.error < best.error else best._replace(step=until)
        yield best


def learning_rate(step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0: half a cosine from LEARNING_RATE to 0."""
    return LEARNING_RATE * (1 + cos(pi * step / steps)) / 2


def longest(latent_size: int) -> float:
    """Return the length that no projected latent exceeds, as hardly any normal one of Z numbers does."""
    return sqrt(latent_size) + MARGIN


def _starts(
    generator: TrainedGenerator, target: np.ndarray, class_ids: tuple[int, ...], seed: int, ema: bool
) -> Inputs:
    """Return the latents and classes of those drawn whose images are most like the target."""
    size = generator.backend.config.networks.latent_size
    latents = sample_latents(seed, CANDIDATES, size, stream=Stream.PROJECTION)
    labels = sample_labels(CANDIDATES, class_ids) if class_ids else None
    images = generate_images([generator], [Inputs(latents, labels)], ema)
    errors = np.concatenate([_errors(batch, target) for batch in images])
    chosen = np.argsort(errors, kind="stable")[:STARTS]
    return Inputs(latents[chosen], None if labels is None else labels[chosen])


def _best(generator: TrainedGenerator, target: np.ndarray, inputs: Inputs, step: int, ema: bool) -> Projected:
    """Return what of several latents (N, Z) is most like the target."""
    images = generator.backend.sample(generator.state, inputs, ema)
    errors = _errors(images, target)
    least = int(errors.argmin())
    label = None if inputs.labels is None else int(inputs.labels[least])
    return Projected(step, inputs.latents[least], label, images[least], float(errors[least]))


def _errors(images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the root mean squared difference of each image from the target, float64 (N,)."""
    return np.sqrt(np.square(images.astype(np.float64) - target).mean((1, 2, 3)))
