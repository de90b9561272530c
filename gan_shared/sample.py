"""Checkpoint and seeds to images: grids, single pictures, arrays, interpolations."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gan_shared import checkpoint
from gan_shared.atomic import replacing
from gan_shared.backend import Backend, Inputs, MakeBackend, State
from gan_shared.config import Config
from gan_shared.draws import sample_labels, sample_latents
from gan_shared.errors import unexpected
from gan_shared.interrupt import deferred
from gan_shared.pictures import grid, save_gif, save_png
from gan_shared.validation import validate

# Images made at a time, the last batch filled up: one shape, so one compilation.
BATCH = 64
# An animation shows this many images side by side, and takes this many frames from one latent to the next.
GIF_IMAGES, GIF_FRAMES_PER_LATENT = 16, 16
# Ten times ImageNet: whoever asks for more has mistyped.
MAX_IMAGES = 10**7
SUFFIXES = (".png", ".npz", ".gif")


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
) -> None:
    """Write images that a trained generator makes.

    Args:
        make_backend: the Backend class of gan_torch or gan_jax; either reads the other's checkpoints.
        source: a run folder (its newest checkpoint) or a checkpoint folder.
        out: ``.png`` for a grid, ``.npz`` for the arrays ``images``, ``latents`` and, of a conditional generator,
            ``labels``, ``.gif`` for a walk between latents of ``num_images`` frames, or a new folder for single PNGs.
        num_images: how many.
        seed: image i follows from the seed, i and the classes alone.
        classes: of a conditional generator, taken in turn; all of them when there are none.
        ema: whether the averaged generator makes them.
        device: where to compute, whatever the run was trained on.

    Raises:
        UserError: the source, the number or the output cannot be used.
    """
    check_request(num_images, seed)
    check_output(out)
    loaded = checkpoint.load_newest(source)
    config = replace(loaded.config, device=device)
    validate(config)
    with deferred(), checkpoint.offering(loaded.path):
        backend = make_backend(config)
        state = backend.restore(loaded.tensors)
    chosen = check_classes(config, classes)
    if out.suffix.lower() == ".gif":
        frames = [
            grid(np.concatenate(list(make_images(backend, state, told(latents, chosen), ema))))
            for latents in walk(seed, num_images, config.latent_size)
        ]
        return save_gif(out, frames)
    inputs = told(sample_latents(seed, num_images, config.latent_size), chosen)
    write(out, make_images(backend, state, inputs, ema), inputs)


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


def told(latents: np.ndarray, classes: tuple[int, ...]) -> Inputs:
    """Join latents (N, Z) with ``classes`` in turn, where there are any."""
    return Inputs(latents, sample_labels(len(latents), classes) if classes else None)


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


def make_images(backend: Backend, state: State, inputs: Inputs, ema: bool) -> Iterator[np.ndarray]:
    """Yield uint8 (up to BATCH, H, W, C) for inputs, in order."""
    count = len(inputs.latents)
    for first in range(0, count, BATCH):
        rows = np.arange(first, first + BATCH) % count  # the last batch is filled up from the first images
        labels = None if inputs.labels is None else inputs.labels[rows]
        yield backend.sample(state, Inputs(inputs.latents[rows], labels), ema)[: count - first]


def write(out: Path, batches: Iterator[np.ndarray], inputs: Inputs) -> None:
    """Write images as the kind of output that ``out`` names; single pictures are never held at once."""
    if out.suffix.lower() == ".png":
        save_png(out, grid(np.concatenate(list(batches))))
    elif out.suffix.lower() == ".npz":
        with replacing(out) as temporary, temporary.open("wb") as file:
            arrays = {name: value for name, value in inputs._asdict().items() if value is not None}
            np.savez_compressed(file, images=np.concatenate(list(batches)), **arrays)
    else:
        write_singles(out, (image for batch in batches for image in batch), max(4, len(str(len(inputs.latents) - 1))))


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
