"""How long training waits for its data: ``python -m benchmarks.input --help``.

Small grey pictures at 32 and 28 pixels and photographs at 256 pixels, which the benchmark cuts at random out of two
real ones and writes as JPEG into a temporary folder. Each is decoded into an empty cache first (cold), then trained on
from the cache (warm), its images on the host or on the device. Waiting is the time that the loop spends inside ``next``
of ``gan_shared.data.batches.batches``, of all its wall time; the device is synchronised at the end of every round.
"""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

import numpy as np
import tyro

from benchmarks.harness import Bench, Plan, say
from benchmarks.machine import cache_in
from benchmarks.settings import Settings, available, configuration
from gan_shared import data, presets
from gan_shared.command import guarded
from gan_shared.data import cache
from gan_shared.data.named import FASHION_MNIST
from gan_shared.errors import unexpected
from gan_shared.pictures import to_pillow

# Photographs that scikit-learn carries, which mlxtend needs and so brings along.
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
PHOTOGRAPH_PIXELS = 256


@dataclass(frozen=True)
class Options:
    """Measure the share of a step that is spent waiting for data."""

    backends: tuple[str, ...] = ("torch", "jax")
    """Backends to measure: torch, jax, torch-compile, or several."""

    rounds: int = 3
    """Turns of every variant."""

    steps: int = 60
    """Steps of a turn."""

    photographs: int = 512
    """Pictures of 256 pixels that are made."""

    width: float | None = None
    """Factor on the channel counts; the presets' own, and 0.25 at 256 pixels, when not given."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""

    out: Path | None = None
    """JSON file; benchmarks/results/DEVICE-input.json when not given."""


class Case(NamedTuple):
    """A set of images and what is trained on it.

    Attributes:
        label: the set's name in the results.
        settings: the cell, but for its backend and the place of the images.
    """

    label: str
    settings: Settings


@dataclass
class Decoding:
    """What bringing a set into the cache took.

    Attributes:
        images: number of images.
        cold_seconds: from an empty cache.
        warm_seconds: when it was there.
    """

    images: int = 0
    cold_seconds: float = field(default=0.0)
    warm_seconds: float = field(default=0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options), "groups that had finished are in the file")


def run(options: Options) -> None:
    """Measure every case, each with a cache of its own.

    Raises:
        UserError: a backend is unknown or a number too small.
    """
    if min(options.steps, options.photographs) < 1:
        raise unexpected("steps, photographs", (options.steps, options.photographs), "at least 1 of each")
    backends = available(options.backends, say)
    bench = Bench("input", options.out, Plan(rounds=options.rounds, steps_per_round=options.steps))
    with TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "photographs"
        make_photographs(pictures, options.photographs)
        for number, (label, settings) in enumerate(_cases(options, pictures)):
            folder = str(Path(temporary) / f"cache-{number}")
            decoding = decode(settings, folder)
            group = [
                replace(settings, backend=backend, data_on=place)
                for backend in backends
                for place in ("host", "device")
            ]
            extra = {
                "data": label,
                "images": decoding.images,
                "decode_seconds_per_image": decoding.cold_seconds / decoding.images,
                "warm_load_seconds": decoding.warm_seconds,
            }
            bench.measure(group, extra, {"TWIN_GAN_CACHE": folder})
    say(f"wrote {bench.out}")


def decode(settings: Settings, folder: str) -> Decoding:
    """Load a set twice into the cache ``folder``, which is empty, and return how long both took."""
    config = configuration(settings)
    result = Decoding()
    with cache_in(folder):
        start = perf_counter()
        result.images = len(data.load(config.execution.data, config.data.resolution, config.data.channels).images)
        result.cold_seconds = perf_counter() - start
        start = perf_counter()
        data.load(config.execution.data, config.data.resolution, config.data.channels)
        result.warm_seconds = perf_counter() - start
    return result


def make_photographs(folder: Path, count: int) -> None:
    """Write ``count`` JPEG files of 256x256 pixels, cut at random places out of real photographs.

    Args:
        folder: made here.
        count: number of files; the same ones every time.

    Raises:
        UserError: scikit-learn, whose photographs they are, is not installed.
    """
    from PIL import Image

    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise unexpected(
            "scikit-learn", "no such package", "it installed, as photographs are cut out of two of its own"
        )
    images = Path(package.origin).parent / "datasets" / "images"
    originals = []
    for name in PHOTOGRAPHS:
        with Image.open(images / name) as picture:
            originals.append(np.array(picture.convert("RGB")))
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        original = originals[number % len(originals)]
        top, left = (int(generator.integers(size - PHOTOGRAPH_PIXELS + 1)) for size in original.shape[:2])
        cut = original[top : top + PHOTOGRAPH_PIXELS, left : left + PHOTOGRAPH_PIXELS]
        to_pillow(np.ascontiguousarray(cut)).save(folder / f"{number:05}.jpg", quality=90)


def _cases(options: Options, pictures: Path) -> list[Case]:
    """Return what is measured."""
    label, images = _small()
    cases = [
        Case(
            label,
            Settings(
                preset, "torch", presets.get_preset(preset).training.batch_size, data=images, device=options.device
            ),
        )
        for preset in ("dcgan", "article")
    ]
    large = Settings("dcgan", "torch", 16, resolution=PHOTOGRAPH_PIXELS, width=0.25, data=str(pictures))
    cases.append(Case("photographs", replace(large, device=options.device)))
    if options.width is None:
        return cases
    return [case._replace(settings=replace(case.settings, width=options.width)) for case in cases]


def _small() -> tuple[str, str]:
    """Return the label and the ``--data`` of the small pictures: garments where they need no network, else digits."""
    files = FASHION_MNIST.training.files
    first = next(iter(files))
    for folder in (cache.root() / "downloads" / FASHION_MNIST.name, FASHION_MNIST.packaged):
        if folder is not None and all((folder / name).is_file() for name in files):
            return FASHION_MNIST.name, str(folder / first)
    return "mnist-5k", "mnist-5k"


if __name__ == "__main__":
    sys.exit(main())
