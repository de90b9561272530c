"""Checkpoint and seeds to images: grids, single pictures, arrays, interpolations."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_shared import checkpoint, data, pyramid
from gan_shared.atomic import replacing
from gan_shared.backend import Backend, Inputs, MakeBackend, State
from gan_shared.config import RANDOM, Config
from gan_shared.data import Dataset
from gan_shared.draws import sample_labels, sample_latents
from gan_shared.errors import UserError, unexpected
from gan_shared.interrupt import deferred
from gan_shared.pictures import beside, captioned, grid, save_gif, save_png
from gan_shared.validation import validate
from gan_shared.vgg16 import RANDOM_NOTE

# Images in a sample grid: eight rows of eight.
GRID_SIZE = 64
# Pixels beyond which a grid of pictures and what is made of them shows eight of them instead of 32.
LARGE_PICTURE = 64
# Images made at a time, fewer where they would have more pixels than this together; the last batch is filled up: one
# shape, so one compilation.
BATCH, BATCH_PIXELS = 64, 64 * 64**2
# An animation shows this many images side by side, and takes this many frames from one latent to the next.
GIF_IMAGES, GIF_FRAMES_PER_LATENT = 16, 16
# Ten times ImageNet: whoever asks for more has mistyped.
MAX_IMAGES = 10**7
SUFFIXES = (".png", ".npz", ".gif")


class Maker(NamedTuple):
    """A trained generator: one, or one for each level of a pyramid.

    Attributes:
        backend: what computes it.
        state: its values.
    """

    backend: Backend
    state: State


def sample(
    make_backend: MakeBackend,
    source: Path,
    out: Path,
    *,
    num_images: int = 64,
    seed: int = 0,
    classes: tuple[int, ...] = (),
    ema: bool = True,
    device: str = "auto",
    images: str | None = None,
    resolution: int | None = None,
    vgg_weights: str | None = None,
) -> None:
    """Write images that a trained generator makes.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax; either reads the other's checkpoints.
        source: a run folder (its newest checkpoint), a checkpoint folder, or the folder of a pyramid, whose levels are
            composed.
        out: ``.png`` for a grid, ``.npz`` for the arrays ``images``, ``latents`` (of a pyramid's lowest level) and, of
            a conditional generator, ``labels``, ``.gif`` for a walk between latents of ``num_images`` frames, or a new
            folder for single PNGs. Of a generator that is told of pictures: each picture beside what was made of it,
            as ``pictures`` in an ``.npz``, and no ``.gif``.
        num_images: how many.
        seed: image i follows from the seed, i, the classes and its picture alone.
        classes: of a conditional generator, taken in turn; when there are none, those of the pictures, or all.
        ema: whether the averaged generator makes them.
        device: where to compute, whatever the run was trained on.
        images: the pictures that the generator is told of, where it is told of any: what ``data.load`` takes.
        resolution: the level of a pyramid to stop at.
        vgg_weights: file of VGG16's weights, where it is not where it was in training.

    Raises:
        UserError: the source, the number or the output cannot be used.
    """
    check_request(num_images, seed)
    check_output(out)
    found = find(source, resolution)
    changed = {"device": device} | ({} if vgg_weights is None else {"vgg_weights": vgg_weights})
    configs = [replace(loaded.config, **changed) for loaded in found]
    pictures = load_pictures(configs[0], images, out, num_images, classes)
    chosen, makers = check_classes(configs[0], classes), []
    for loaded, config in zip(found, configs, strict=True):
        validate(config)
        with deferred():
            backend = make_backend(config)
            with checkpoint.offering(loaded.path):
                makers.append(Maker(backend, backend.restore(loaded.tensors)))
    if out.suffix.lower() == ".gif":
        first, *above = told(configs, seed, GIF_IMAGES, chosen)
        frames = [
            grid(np.concatenate(list(make_images(makers, [first._replace(latents=latents), *above], ema))))
            for latents in walk(seed, num_images, configs[0].latent_size)
        ]
        return save_gif(out, frames)
    count = num_images if pictures is None else len(pictures.images)
    first, *above = told(configs, seed, count, chosen)
    if pictures is not None:
        first = first._replace(images=pictures.images)
        if configs[0].conditional and not classes and pictures.labels is not None:
            first = first._replace(labels=pictures.labels)
    write(out, make_images(makers, [first, *above], ema), first, configs[-1])


def find(source: Path, resolution: int | None) -> list[checkpoint.Checkpoint]:
    """Return the checkpoint that ``source`` means, or those of a pyramid's levels up to ``resolution``.

    Raises:
        UserError: there is none, or a level is missing or does not belong, or ``resolution`` is asked of a single run.
    """
    if pyramid.is_pyramid(source):
        return pyramid.load(source, resolution)
    if resolution is not None:
        raise unexpected("resolution", resolution, f"none, as {source} is no folder of a pyramid")
    return [checkpoint.load_newest(source)]


def load_pictures(
    config: Config, images: str | None, out: Path, num_images: int, classes: tuple[int, ...]
) -> Dataset | None:
    """Return the pictures that a generator is told of, at most ``num_images``; None where it is told of none.

    Raises:
        UserError: pictures are missing, or given to a generator that is told of none, or cannot be read.
    """
    if config.condition == "none":
        if images is not None:
            raise unexpected("images", images, "none, as the generator is told nothing of pictures")
        return None
    if images is None:
        raise unexpected("images", None, "a folder of pictures, or what else --data takes, as the generator reads them")
    if out.suffix.lower() == ".gif":
        raise unexpected("out", ".gif", "another kind of file, as the generator is told of pictures")
    try:
        found = data.load(images, config.data_resolution, config.channels)
    except UserError as error:  # it calls what it loads data
        raise UserError(re.sub("^data:", "images:", str(error))) from error
    if config.conditional and not classes and found.labels is not None and len(found.classes) != config.class_count:
        expected = f"the {config.class_count} of the run, or --classes for what they show"
        raise unexpected("images", f"{len(found.classes)} classes", expected)
    pictures, labels = found.spread(min(num_images, len(found.images)))
    return found._replace(images=pictures, labels=labels, stacked=1)


def check_request(num_images: int, seed: int) -> None:
    """Refuse numbers that no samples follow from.

    Raises:
        UserError: naming what was found and expected.
    """
    whole = (int, np.integer)
    if not isinstance(num_images, whole) or not 1 <= num_images <= MAX_IMAGES:
        raise unexpected("num_images", num_images, f"a number from 1 to {MAX_IMAGES}")
    if not isinstance(seed, whole) or not 0 <= seed < 2**63:
        raise unexpected("seed", seed, f"a number from 0 to {2**63 - 1}")


def check_classes(config: Config, classes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the classes to make in turn: those asked for, or all that a generator is told; none where it is told none.

    Raises:
        UserError: classes are asked for that the generator does not know.
    """
    known = range(config.class_count)
    if not set(classes) <= set(known):
        expected = f"numbers from 0 to {len(known) - 1}" if known else "none, as the generator is told no classes"
        raise unexpected("classes", " ".join(map(str, classes)), expected)
    return classes or tuple(known)


def told(configs: Sequence[Config], seed: int, count: int, classes: tuple[int, ...]) -> list[Inputs]:
    """Return what ``count`` images are made from by each of a pyramid's generators, or by a single one.

    Each has latents of its own, and all have ``classes`` in turn, where there are any.
    """
    labels = sample_labels(count, classes) if classes else None
    return [
        Inputs(sample_latents(seed, count, config.latent_size, level), labels) for level, config in enumerate(configs)
    ]


def check_output(out: Path) -> None:
    """Refuse an output that is of no known kind or would mix with what is there.

    Raises:
        UserError: naming what was found and the choices.
    """
    if out.suffix.lower() in SUFFIXES:
        if out.is_dir():
            raise unexpected("out", f"the folder {out}", "a file name")
    elif out.suffix and not out.is_dir():
        raise unexpected("out", out.suffix, "a kind of file that can be written", (*SUFFIXES, "a folder"))
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise unexpected("out", f"{out}, which is not empty", "a new or empty folder for single pictures")


def make_images(makers: Sequence[Maker], inputs: Sequence[Inputs], ema: bool) -> Iterator[np.ndarray]:
    """Yield uint8 (up to BATCH, H, W, C) in order: each generator adds to what the one before it made.

    Args:
        makers: one generator, or those of a pyramid's levels, the lowest first.
        inputs: of each; the pictures, where there are any, those of the first.
        ema: whether the averaged generators make them.
    """
    count, size = len(inputs[0].latents), makers[-1].backend.config.resolution
    batch = max(1, min(BATCH, BATCH_PIXELS // size**2))
    for first in range(0, count, batch):
        rows = np.arange(first, first + batch) % count  # the last batch is filled up from the first images
        made = None
        for (backend, state), own in zip(makers, inputs, strict=True):
            now = Inputs(own.latents[rows], *(value if value is None else value[rows] for value in own[1:]))
            made = backend.sample(state, now if made is None else now._replace(images=made), ema)
        assert made is not None, "nothing makes images"
        yield made[: count - first]


def grid_inputs(config: Config, dataset: Dataset) -> Inputs:
    """Return what a run's sample grids are made from, always the same.

    The classes in turn, or pictures from the whole set and their classes where the generator is told of pictures.
    """
    if config.condition == "none":
        classes = sample_labels(GRID_SIZE, tuple(range(config.class_count))) if config.conditional else None
        return Inputs(sample_latents(config.seed, GRID_SIZE, config.latent_size), classes)
    count = GRID_SIZE // 2 if config.resolution <= LARGE_PICTURE else GRID_SIZE // 8
    pictures, labels = dataset.spread(count)
    return Inputs(
        sample_latents(config.seed, count, config.latent_size), labels if config.conditional else None, pictures
    )


def make_sheet(backend: Backend, state: State, inputs: Inputs) -> np.ndarray:
    """Return a picture, uint8 (H, W, C), of what the averaged generator makes of inputs."""
    return sheet(backend.config, backend.sample(state, inputs), inputs.images)


def sheet(config: Config, made: np.ndarray, pictures: np.ndarray | None) -> np.ndarray:
    """Arrange images uint8 (N, H, W, C) in one picture, beside the pictures (N, H', W', C) that they were made from."""
    columns = 2 * ceil(sqrt(len(made) / 2))
    result = grid(made) if pictures is None else grid(beside(pictures, made), columns)
    return captioned(result, RANDOM_NOTE) if config.vgg_sha256 == RANDOM else result


def write(out: Path, batches: Iterator[np.ndarray], inputs: Inputs, config: Config) -> None:
    """Write images as the kind of output that ``out`` names; single pictures are never held at once.

    Args:
        out: see ``sample``.
        batches: uint8 (up to BATCH, H, W, C).
        inputs: what they are made from.
        config: of the run that made them.
    """
    if out.suffix.lower() == ".png":
        save_png(out, sheet(config, np.concatenate(list(batches)), inputs.images))
    elif out.suffix.lower() == ".npz":
        with replacing(out) as temporary, temporary.open("wb") as file:
            named = {"latents": inputs.latents, "labels": inputs.labels, "pictures": inputs.images}
            arrays = {name: value for name, value in named.items() if value is not None}
            np.savez_compressed(file, images=np.concatenate(list(batches)), **arrays)
    else:
        singles = (image for batch in batches for image in batch)
        if inputs.images is not None:
            pairs = zip(inputs.images, singles, strict=True)
            singles = (grid(beside(picture[None], made[None]), columns=2) for picture, made in pairs)
        write_singles(out, singles, max(4, len(str(len(inputs.latents) - 1))))


def write_singles(folder: Path, images: Iterator[np.ndarray], digits: int) -> None:
    """Write single PNGs, numbered with so many digits, all or none.

    A new folder appears when it is complete. An empty one that is there stays, as it may be the one that the
    user's shell is in: what a failure leaves in it is removed.
    """
    if not folder.exists():
        with replacing(folder) as temporary:
            temporary.mkdir()
            return write_singles(temporary, images, digits)
    written: list[Path] = []
    try:
        for i, image in enumerate(images):
            written.append(folder / f"{i:0{digits}d}.png")
            save_png(written[-1], image)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def walk(seed: int, frames: int, latent_size: int) -> Iterator[np.ndarray]:
    """Yield latents (GIF_IMAGES, Z) along a closed path through random latents, one array per frame.

    Neighbouring latents are joined on the sphere (White 2016, arXiv:1609.04468): a straight line between two
    normals passes closer to the origin than the generator has ever seen.
    """
    stops = max(2, round(frames / GIF_FRAMES_PER_LATENT))
    latents = sample_latents(seed, stops * GIF_IMAGES, latent_size).reshape(stops, GIF_IMAGES, latent_size)
    for frame in range(frames):
        position = frame * stops / frames
        stop = int(position)
        yield slerp(latents[stop], latents[(stop + 1) % stops], position - stop)


def slerp(start: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
    """Interpolate on the sphere between vectors (N, Z); straight where they are parallel."""
    norms = np.linalg.norm(start, axis=1) * np.linalg.norm(end, axis=1)
    cosine = np.clip((start * end).sum(1) / norms, -1, 1)
    angle = np.arccos(cosine)[:, None]
    sine = np.sin(angle)
    straight = sine < 1e-6
    safe = np.where(straight, 1, sine)
    a = np.where(straight, 1 - fraction, np.sin((1 - fraction) * angle) / safe)
    b = np.where(straight, fraction, np.sin(fraction * angle) / safe)
    return (a * start + b * end).astype(np.float32)
