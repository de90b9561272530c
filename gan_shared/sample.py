"""Checkpoint and seeds to images: grids, single pictures, arrays, interpolations."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_shared import checkpoint, data, lapgan
from gan_shared.atomic import check_parents, replacing
from gan_shared.backend import Backend, Inputs, MakeBackend, State
from gan_shared.config import Config
from gan_shared.data import Dataset
from gan_shared.draws import sample_labels, sample_latents
from gan_shared.errors import UserError, unexpected
from gan_shared.image_conditions import image_condition, is_image_conditional
from gan_shared.interrupt import deferred
from gan_shared.latents import FRAMES_PER_LATENT, WALK_IMAGES, LatentSource, check_request
from gan_shared.own import for_images
from gan_shared.pictures import beside, captioned, grid, save_gif, save_mp4, save_png
from gan_shared.validation import validate

# Images in a sample grid: eight rows of eight.
GRID_SIZE = 64
# Height in pixels beyond which a grid of images and their reconstructions shows eight of them instead of 32.
LARGE_IMAGE = 64
# Images made at a time, fewer where they would have more pixels than this together; the last batch is filled up: one
# shape, so one compilation.
BATCH, BATCH_PIXELS = 64, 64 * 64**2
NO_CLASSES = "none, as the generator is not class-conditional"
# How many classes the caption of a grid names.
NAMED_CLASSES = 12
# Characters of a name in such a caption.
LONGEST_NAME = 32
ANIMATIONS = {".gif": save_gif, ".mp4": save_mp4}
SEED_0 = LatentSource()
SUFFIXES = (".png", ".npz", *ANIMATIONS)


class TrainedGenerator(NamedTuple):
    """A generator that images can be made with: of a single run, or of one pyramid level of a LAPGAN.

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
    num_images: int | None = None,
    latents: LatentSource = SEED_0,
    classes: tuple[str, ...] = (),
    ema: bool = True,
    device: str = "auto",
    images: str | None = None,
    resolution: int | None = None,
    vgg_weights: str | None = None,
) -> None:
    """Write images that a trained generator makes.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax; either reads the other's checkpoints.
        source: a run folder (its newest checkpoint), a checkpoint folder, the folder of a generator alone, or that of
            a LAPGAN, whose pyramid levels are composed.
        out: ``.png`` for a grid, ``.npz`` for the arrays ``images``, ``latents`` (of a LAPGAN's lowest level) and, of
            a class-conditional generator, ``labels``, ``.gif`` or ``.mp4`` for a walk between latents of
            ``num_images`` frames, or a new folder for single PNGs. Of an image-conditional generator: each input image
            beside what was made of it, as ``input_images`` in an ``.npz``, and no walk.
        num_images: how many; 64 when not given. With listed seeds one of each, or 16 frames for each.
        latents: image i follows from its latent, the classes and its input image alone.
        classes: names or numbers of those that a class-conditional generator makes, in turn; a name wins over a number.
            When there are none, those of the input images, or all.
        ema: whether the averaged generator makes them.
        device: where to compute, whatever the run was trained on.
        images: input images for an image-conditional generator: what ``data.load`` takes.
        resolution: the pyramid level of a LAPGAN to stop at.
        vgg_weights: file of VGG16's weights, where it is not where it was in training.

    Raises:
        UserError: the source, the number or the output cannot be used.
    """
    animated = out.suffix.lower() in ANIMATIONS
    num_images = _number(num_images, latents, animated)
    check_request(num_images, latents)
    check_output(out)
    twice = [seed for seed, times in Counter(latents.seeds).items() if times > 1]
    if twice and out.suffix.lower() not in SUFFIXES:
        raise unexpected("seeds", f"{twice[0]} twice", "each once, as single pictures are called by their seeds")
    found = load_checkpoints(source, resolution)
    changed = {"device": device} | ({} if vgg_weights is None else {"vgg_weights": vgg_weights})
    configs = [loaded.config.with_options(**changed) for loaded in found]
    names = found[0].class_names
    input_images = load_input_images(configs[0], images, out, num_images, classes)
    if input_images is not None and latents.seeds:
        raise unexpected("seeds", " ".join(map(str, latents.seeds)), "none, as the generator is image-conditional")
    if animated and latents.seeds and len(classes) > 1:
        raise unexpected("classes", " ".join(classes), "one, which every image of a walk between seeds has")
    chosen = chosen_classes(configs[0], classes, names)
    generators = [restored(make_backend, each, config) for each, config in zip(found, configs, strict=True)]
    if animated:
        first, *above = inputs_of(configs, latents, 1 if latents.seeds else WALK_IMAGES, chosen)
        size = configs[0].networks.latent_size
        frames = (
            grid(np.concatenate(list(generate_images(generators, [first._replace(latents=now), *above], ema))))
            for now in latents.walk(num_images, size, categorical=configs[0].categorical_latents)
        )
        return ANIMATIONS[out.suffix.lower()](out, frames)
    count = num_images if input_images is None else len(input_images.images)
    first, *above = inputs_of(configs, latents, count, chosen)
    if input_images is not None:
        first = first._replace(images=input_images.images)
        if configs[0].data.class_conditional and not classes and input_images.labels is not None:
            first = first._replace(labels=input_images.labels)
    write(out, generate_images(generators, [first, *above], ema), first, configs[-1], names, latents.seeds)


def _number(num_images: int | None, latents: LatentSource, animated: bool) -> int:
    """Return how many images or frames are asked for.

    Raises:
        UserError: not as many images as there are seeds, or a walk from one seed to itself.
    """
    seeds = len(latents.seeds)
    if not seeds:
        return 64 if num_images is None else num_images
    if animated and seeds == 1:
        raise unexpected("seeds", latents.seeds[0], "two or more to walk between")
    if animated and num_images is not None and num_images < seeds:
        raise unexpected("num_images", num_images, f"at least the {seeds} seeds, as each is a frame")
    if animated:
        return FRAMES_PER_LATENT * seeds if num_images is None else num_images
    if num_images not in (None, seeds):
        raise unexpected("num_images", num_images, f"{seeds} as there are seeds, or none")
    return seeds


def load_checkpoints(source: Path, resolution: int | None) -> list[checkpoint.Checkpoint]:
    """Return the checkpoint that ``source`` means, or those of a LAPGAN's pyramid levels up to ``resolution``.

    Raises:
        UserError: there is none, or a level is missing or does not belong, or ``resolution`` is asked of a single run.
    """
    if lapgan.is_lapgan(source):
        return lapgan.load(source, resolution)
    if resolution is not None:
        raise unexpected("resolution", resolution, f"none, as {source} is no folder of a LAPGAN")
    return [checkpoint.load_newest(source)]


def load_input_images(
    config: Config, images: str | None, out: Path, num_images: int, classes: tuple[str, ...]
) -> Dataset | None:
    """Return at most ``num_images`` input images of an image-conditional generator; None for any other.

    Raises:
        UserError: they are missing, or given to a generator that takes none, or cannot be read.
    """
    if not is_image_conditional(config):
        if images is not None:
            raise unexpected("images", images, "none, as the generator is not image-conditional")
        return None
    if images is None:
        expected = "a folder of images, or what else --data takes, as the generator is image-conditional"
        raise unexpected("images", None, expected)
    if out.suffix.lower() in ANIMATIONS:
        raise unexpected("out", out.suffix, "another kind of file, as the generator is image-conditional")
    try:
        found = data.load(images, config.data_resolution, config.data.channels)
    except UserError as error:  # it names the option data
        raise UserError(re.sub("^data:", "images:", str(error))) from error
    labelled = config.data.class_conditional and not classes and found.labels is not None
    if labelled and len(found.class_names) != config.num_classes:
        expected = f"the {config.num_classes} of the run, or --classes for what they show"
        raise unexpected("images", f"{len(found.class_names)} classes", expected)
    chosen, labels = found.spread(min(num_images, len(found.images)))
    return found._replace(images=chosen, labels=labels, stacked=1)


def restored(make_backend: MakeBackend, loaded: checkpoint.Checkpoint, config: Config) -> TrainedGenerator:
    """Return the generator of a checkpoint, computed as ``config`` says."""
    loaded, config = for_images(loaded, config)
    validate(config)
    with deferred():
        backend = make_backend(config)
        with checkpoint.suggesting_another(loaded.path):
            return TrainedGenerator(backend, backend.restore(checkpoint.completed(backend, loaded)))


def chosen_classes(config: Config, classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of the classes to make in turn; see ``class_numbers`` and ``check_class_ids``.

    Raises:
        UserError: classes are asked for that the generator does not have.
    """
    if classes and not config.num_classes:
        raise unexpected("classes", " ".join(classes), NO_CLASSES)
    return check_class_ids(config, class_numbers(classes, names), names)


def class_numbers(classes: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    """Return the numbers of classes that are given by name or by number; a name wins over a number.

    Where two have one name, as a class that the data has no name for may have, the first is meant.

    Raises:
        UserError: one is neither.
    """
    numbers = {name: number for number, name in reversed(list(enumerate(names)))}
    for each in classes:
        if each not in numbers and not re.fullmatch(r"[0-9]{1,9}", each):
            raise unexpected("classes", repr(each), "the name or the number of a class", names)
    return tuple(numbers[each] if each in numbers else int(each) for each in classes)


def check_class_ids(config: Config, class_ids: tuple[int, ...], names: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the classes to make in turn: those asked for, or all; none where the generator is not class-conditional.

    Args:
        config: of the run.
        class_ids: those asked for.
        names: of all classes, for the error message; none where they are not known.

    Raises:
        UserError: classes are asked for that the generator does not have.
    """
    known = range(config.num_classes)
    if not set(class_ids) <= set(known):
        expected = f"numbers from 0 to {len(known) - 1}" if known else NO_CLASSES
        raise unexpected("classes", " ".join(map(str, class_ids)), expected, names if known else ())
    return class_ids or tuple(known)


def inputs_of(configs: Sequence[Config], latents: LatentSource, count: int, class_ids: tuple[int, ...]) -> list[Inputs]:
    """Return what ``count`` images are made from by a single generator, or by each of a LAPGAN's.

    Each has latents of its own, and all have the classes in turn, where there are any.
    """
    labels = sample_labels(count, class_ids) if class_ids else None
    return [
        Inputs(
            latents.draw(count, config.networks.latent_size, level, categorical=config.categorical_latents),
            labels,
        )
        for level, config in enumerate(configs)
    ]


def check_output(out: Path) -> None:
    """Refuse an output that is of no known kind or would mix with what is there.

    Raises:
        UserError: naming what was found and the choices.
    """
    check_parents("out", out)
    if out.name.lower() in SUFFIXES:
        raise unexpected("out", out, f"a name before {out.name}")
    if out.suffix.lower() in SUFFIXES:
        if out.is_dir():
            raise unexpected("out", f"the folder {out}", "a file name")
    elif out.suffix and not out.is_dir():
        raise unexpected("out", out.suffix, "a kind of file that can be written", (*SUFFIXES, "a folder"))
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise unexpected("out", f"{out}, which is not empty", "a new or empty folder for single pictures")


def generate_images(
    generators: Sequence[TrainedGenerator], inputs: Sequence[Inputs], ema: bool
) -> Iterator[np.ndarray]:
    """Yield uint8 (up to BATCH, H, W, C) in order; each generator adds to what the one before it made.

    Args:
        generators: one, or those of a LAPGAN's pyramid levels, the lowest first.
        inputs: of each; the input images, where there are any, those of the first.
        ema: whether the averaged generators make them.
    """
    count, size = len(inputs[0].latents), generators[-1].backend.config.data.resolution
    batch = max(1, min(BATCH, BATCH_PIXELS // size**2))
    for first in range(0, count, batch):
        rows = np.arange(first, first + batch) % count  # the last batch is filled up from the first images
        made = None
        for (backend, state), own in zip(generators, inputs, strict=True):
            now = Inputs(own.latents[rows], *(value if value is None else value[rows] for value in own[1:]))
            made = backend.sample(state, now if made is None else now._replace(images=made), ema)
        assert made is not None, "there is no generator"
        yield made[: count - first]


def grid_inputs(config: Config, dataset: Dataset) -> Inputs:
    """Return what a run's sample grids are made from, always the same.

    The classes in turn, or, for an image-conditional generator, images from the whole set and their classes.
    """
    conditional, size = config.data.class_conditional, config.networks.latent_size
    if not is_image_conditional(config):
        labels = sample_labels(GRID_SIZE, tuple(range(config.num_classes))) if conditional else None
        return Inputs(sample_latents(config.training.seed, GRID_SIZE, size), labels)
    count = GRID_SIZE // 2 if config.data.resolution <= LARGE_IMAGE else GRID_SIZE // 8
    images, labels = dataset.spread(count)
    return Inputs(sample_latents(config.training.seed, count, size), labels if conditional else None, images)


def make_sample_grid(backend: Backend, state: State, inputs: Inputs, class_names: Sequence[str]) -> np.ndarray:
    """Return one image, uint8 (H, W, C), of all that the averaged generator makes from inputs."""
    return sample_grid(backend.config, backend.sample(state, inputs), inputs, class_names)


def sample_grid(config: Config, made: np.ndarray, inputs: Inputs, class_names: Sequence[str]) -> np.ndarray:
    """Arrange images in one, under the names of their classes, where they have any.

    Args:
        config: of the run.
        made: uint8 (N, H, W, C).
        inputs: what they were made from; input images are put beside them.
        class_names: of all classes; none where they are not known.
    """
    columns = 2 * ceil(sqrt(len(made) / 2))
    result = grid(made) if inputs.images is None else grid(beside(inputs.images, made), columns)
    note = image_condition(config).note(config)
    if note is not None:
        return captioned(result, note)
    if inputs.labels is None or not class_names:
        return result
    named: list[str] = [class_names[label] for label in dict.fromkeys(map(int, inputs.labels))]
    shown = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 2]}.." for name in named]
    more = ", .." if len(shown) > NAMED_CLASSES else ""
    return captioned(result, f"in turn: {', '.join(shown[:NAMED_CLASSES])}{more}")


def write(
    out: Path,
    batches: Iterator[np.ndarray],
    inputs: Inputs,
    config: Config,
    class_names: Sequence[str],
    seeds: Sequence[int] = (),
) -> None:
    """Write images as the kind of output that ``out`` names; single images are never held at once.

    Args:
        out: see ``sample``.
        batches: uint8 (up to BATCH, H, W, C).
        inputs: what they are made from.
        config: of the run that made them.
        class_names: of all classes; none where they are not known.
        seeds: of each image, which its file is called by; the images are numbered when there are none.
    """
    if out.suffix.lower() == ".png":
        save_png(out, sample_grid(config, np.concatenate(list(batches)), inputs, class_names))
    elif out.suffix.lower() == ".npz":
        with replacing(out) as temporary, temporary.open("wb") as file:
            named = {"latents": inputs.latents, "labels": inputs.labels, "input_images": inputs.images}
            named |= {"seeds": np.array(seeds)} if seeds else {}
            arrays = {name: value for name, value in named.items() if value is not None}
            np.savez_compressed(file, images=np.concatenate(list(batches)), **arrays)
    else:
        singles = (image for batch in batches for image in batch)
        if inputs.images is not None:
            pairs = zip(inputs.images, singles, strict=True)
            singles = (grid(beside(image[None], made[None]), columns=2) for image, made in pairs)
        numbers = seeds or range(len(inputs.latents))
        digits = max(4, len(str(max(numbers))))
        write_singles(out, singles, [f"{'seed' if seeds else ''}{number:0{digits}d}" for number in numbers])


def write_singles(folder: Path, images: Iterator[np.ndarray], names: Sequence[str]) -> None:
    """Write single PNGs under their names, all or none.

    A new folder appears when it is complete. An empty one that is there stays, as it may be the one that the
    user's shell is in: what a failure leaves in it is removed.
    """
    if not folder.exists():
        with replacing(folder) as temporary:
            temporary.mkdir()
            return write_singles(temporary, images, names)
    written: list[Path] = []
    try:
        for name, image in zip(names, images, strict=True):
            written.append(folder / f"{name}.png")
            save_png(written[-1], image)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
