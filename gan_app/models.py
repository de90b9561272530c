"""The runs of a folder, and their generators, opened once and kept."""

import importlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from gan_shared import checkpoint, lapgan, projection
from gan_shared.backend import Inputs
from gan_shared.checkpoint import Checkpoint
from gan_shared.config import Config
from gan_shared.errors import UserError, unexpected
from gan_shared.image_conditions import is_image_conditional
from gan_shared.latents import LatentSource
from gan_shared.manifest import read_json, read_manifest
from gan_shared.sample import (
    TrainedGenerator,
    check_class_ids,
    class_numbers,
    generate_images,
    inputs_of,
    load_checkpoints,
    restored,
)

# Folders below the folder of runs that are looked into, and runs that are listed.
MAX_DEPTH, MAX_RUNS = 3, 1000
# Classes that are listed: a run may come from a stranger.
MAX_CLASSES = 10_000
# Generators that are kept, those that were not used for longest give way.
KEPT = 4
# Steps of a projection between two pictures.
LOOK_EVERY = 5
# What stands for the newest checkpoint of a run.
NEWEST = "newest"
# The generator that comes with the project.
EXAMPLE, EXAMPLE_FOLDER = "example: digits", Path(__file__).with_name("example")


class Opened(NamedTuple):
    """A run's generators in a backend.

    Attributes:
        generators: one, or those of a LAPGAN's pyramid levels, the lowest first.
        loaded: their checkpoints.
        lock: held while they compute, as a backend computes one thing at a time.
    """

    generators: list[TrainedGenerator]
    loaded: list[Checkpoint]
    lock: Any

    @property
    def config(self) -> Config:
        """Of the generator that the latents are of."""
        return self.generators[0].backend.config

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers; none where the generator is not class-conditional."""
        if not self.config.data.class_conditional:
            return ()
        return self.loaded[0].class_names or _numbered(self.config.num_classes)


class Models:
    """The runs in a folder, by the names that the page has for them.

    Args:
        folder: of runs; one that is not there has none.
        backends: names of those that are installed.
        device: where to compute.
    """

    def __init__(self, folder: Path, backends: Sequence[str], device: str) -> None:
        self.folder, self.backends, self._device = folder, tuple(backends), device
        self._opened: OrderedDict[tuple[str, str], Opened] = OrderedDict()
        self._locks = {name: RLock() for name in backends}
        self._lock = RLock()

    def names(self) -> list[str]:
        """List the runs that images can be made with, the newest first."""
        found = sorted(_runs_in(self.folder, MAX_DEPTH), key=lambda each: -each[0])[:MAX_RUNS]
        return [*(path.relative_to(self.folder).as_posix() for _, path in found), EXAMPLE]

    def path(self, name: str) -> Path:
        """Return the folder of a run that is listed: a name from outside leads nowhere else.

        Raises:
            UserError: there is none.
        """
        if name == EXAMPLE:
            return EXAMPLE_FOLDER
        if name not in self.names():
            raise unexpected("run", repr(name), "a run of the list")
        return self.folder / name

    def checkpoints(self, name: str) -> list[str]:
        """List what can be chosen of a run's checkpoints."""
        path = self.path(name)
        return [NEWEST, *(each.name for each in reversed(checkpoint.folders(path)))]

    def class_names(self, name: str) -> tuple[str, ...]:
        """Return the names of a run's classes, or their numbers; none where it is not class-conditional."""
        path = self.path(name)
        if lapgan.is_lapgan(path):
            path = min(path.glob("level-*"), key=lambda each: int(each.name.removeprefix("level-")))
        if _is_generator(path):
            count = read_json(path / "config.json").get("num_classes")
            return _numbered(count) if isinstance(count, int) else ()
        manifest = read_manifest(checkpoint.newest_checkpoint(path))
        if not manifest["config"].get("class_conditional"):
            return ()
        names = manifest["data"].get("class_names", ())
        return tuple(names) or _numbered(manifest["config"]["num_classes"])

    def open(self, name: str, chosen: str, backend: str, *, given_images: bool = False) -> Opened:
        """Return the generators of a run, from its checkpoint or from those that are kept.

        Args:
            name: of the run.
            chosen: which of its checkpoints.
            backend: that computes.
            given_images: whether whoever asks has images for an image-conditional generator; without, it is refused.

        Raises:
            UserError: there is no such run, checkpoint or backend, or it cannot make images from latents alone.
        """
        path = self.path(name)
        if chosen != NEWEST:
            if chosen not in self.checkpoints(name):
                raise unexpected("checkpoint", repr(chosen), "one of the list")
            path = path / checkpoint.CHECKPOINTS / chosen
        if backend not in self.backends:
            raise unexpected("backend", repr(backend), "one that is installed", self.backends)
        with self._lock:
            newest = path if lapgan.is_lapgan(path) or _is_generator(path) else checkpoint.newest_checkpoint(path)
            key = (f"{newest} {_changed(newest)}", backend)
            loaded = self._opened[key].loaded if key in self._opened else load_checkpoints(newest, None)
            if is_image_conditional(loaded[0].config) and not given_images:
                raise UserError(
                    f"{newest.name}: its generator is given images; choose one that makes them from latents"
                )
            if key not in self._opened:
                self._opened[key] = self._restored(loaded, backend)
            self._opened.move_to_end(key)
            while len(self._opened) > KEPT:
                self._opened.popitem(last=False)
            return self._opened[key]

    def _restored(self, loaded: list[Checkpoint], backend: str) -> Opened:
        """Build the generators of checkpoints."""
        make_backend = importlib.import_module(f"gan_{backend}.backend").Backend
        with self._locks[backend]:
            configs = [each.config.with_options(device=self._device) for each in loaded]
            generators = [restored(make_backend, *pair) for pair in zip(loaded, configs, strict=True)]
        return Opened(generators, loaded, self._locks[backend])


def installed_backends() -> tuple[str, ...]:
    """Return the backends whose frameworks are installed."""
    return tuple(name for name in ("torch", "jax") if find_spec(f"gan_{name}") and find_spec(name))


def make(opened: Opened, latents: LatentSource, count: int, classes: Sequence[str] = (), ema: bool = True) -> Any:
    """Yield images uint8 (up to a batch, H, W, C) as they are made; see ``sample``.

    Args:
        opened: the generators.
        latents: where the latents come from.
        count: how many images.
        classes: names of those to make in turn; all where there are none.
        ema: whether the averaged generator makes them.
    """
    batches = generate_images(opened.generators, _inputs(opened, latents, count, classes), ema)
    while True:
        with opened.lock:
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def make_of(opened: Opened, latents: np.ndarray, classes: Sequence[str] = (), ema: bool = True) -> np.ndarray:
    """Return the images of given latents, float32 (N, Z); a LAPGAN's higher levels have those of seed 0."""
    first, *above = _inputs(opened, LatentSource(), len(latents), classes)
    with opened.lock:
        made = generate_images(opened.generators, [first._replace(latents=latents), *above], ema)
        return np.concatenate(list(made))


def make_blends(opened: Opened, latents: LatentSource, weights: np.ndarray) -> np.ndarray:
    """Return the images of one latent and of weights of the classes, float32 (N, classes); see ``latents.blends``."""
    inputs = [Inputs(each.latents.repeat(len(weights), 0), weights) for each in _inputs(opened, latents, 1, ())]
    with opened.lock:
        return np.concatenate(list(generate_images(opened.generators, inputs, ema=True)))


def projected(
    opened: Opened, target: np.ndarray, classes: Sequence[str], steps: int, seed: int
) -> Iterator[projection.Projected]:
    """Yield the image that is most like a target so far, until all steps are taken; see ``projection.project``.

    Args:
        opened: the generator.
        target: uint8 (H, W, C).
        classes: the name of the class that the image has; of several, each start has one. All where there are none.
        steps: of Adam.
        seed: what the first latents follow from.
    """
    names = opened.class_names
    chosen = check_class_ids(opened.config, class_numbers(classes, names), names)
    search = projection.project(opened.generators[0], target, chosen, steps=steps, seed=seed, look_every=LOOK_EVERY)
    while True:
        with opened.lock:
            found = next(search, None)
        if found is None:
            return
        yield found


def reconstruct(opened: Opened, image: np.ndarray, classes: Sequence[str] = ()) -> np.ndarray:
    """Return what an image-conditional generator makes of an image uint8 (H, W, C), with the latent of seed 0.

    Args:
        opened: the generator.
        image: of the size and colours that it was trained on.
        classes: the name of the class that the image has; the first where there is none.
    """
    (inputs,) = _inputs(opened, LatentSource(), 1, classes)
    with opened.lock:
        return next(generate_images(opened.generators, [inputs._replace(images=image[None])], ema=True))[0]


def _inputs(opened: Opened, latents: LatentSource, count: int, classes: Sequence[str]) -> list[Inputs]:
    """Return what images are made from; see ``make``.

    Raises:
        UserError: there is no class of a name.
    """
    names, configs = opened.class_names, [each.backend.config for each in opened.generators]
    chosen = check_class_ids(opened.config, class_numbers(classes, names), names)
    return inputs_of(configs, latents, count, chosen)


def _runs_in(folder: Path, depth: int) -> list[tuple[float, Path]]:
    """Return the runs below a folder with the times that they changed; links are not followed."""
    found: list[tuple[float, Path]] = []
    paths: list[Path] = []
    with suppress(OSError):
        paths = list(folder.iterdir())
    for path in paths:
        with suppress(OSError):  # one that cannot be read hides no other
            if path.is_symlink() or not path.is_dir() or path.name.startswith("."):
                continue
            if lapgan.is_lapgan(path) or checkpoint.folders(path) or _is_generator(path) or _is_checkpoint(path):
                found.append((path.stat().st_mtime, path))
            elif depth > 1:
                found += _runs_in(path, depth - 1)
    return found


def _numbered(count: int) -> tuple[str, ...]:
    """Return the numbers of classes as their names.

    Raises:
        UserError: there are more than anybody chooses from.
    """
    if count > MAX_CLASSES:
        raise unexpected("num_classes", count, f"at most {MAX_CLASSES:,}")
    return tuple(map(str, range(count)))


def _is_generator(path: Path) -> bool:
    """Return whether a folder is that of a generator alone."""
    return (
        checkpoint.described_by(path).name == checkpoint.GENERATOR_WEIGHTS
        and (path / checkpoint.GENERATOR_WEIGHTS).is_file()
    )


def _is_checkpoint(path: Path) -> bool:
    """Return whether a folder is a checkpoint by itself, as a saved GAN is."""
    return (path / "manifest.json").is_file()


def _changed(path: Path) -> str:
    """Return what differs when the files of a checkpoint or of a LAPGAN's levels do."""
    files = sorted(path.rglob("manifest.json")) or [checkpoint.described_by(path)]
    return json.dumps([(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files])
