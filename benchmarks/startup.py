"""From the start of the process to the end of the first step: ``python -m benchmarks.startup --help``.

Each start is a fresh process that does what training does until then (``first_step.py``), on decoded data of its own.
JAX starts twice in a row: with an empty compilation cache (cold) and with what that start left there (warm). Within
every repeat all variants run once, one after the other.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import tyro

from benchmarks.harness import ROOT, Bench, say
from benchmarks.machine import cache_in
from benchmarks.settings import CONTENDERS, Settings, available, configuration, noise
from gan_shared import presets
from gan_shared.command import guarded
from gan_shared.data import load
from gan_shared.errors import unexpected
from gan_shared.machine import processor

# The data of a run that is started: enough for one batch of any preset.
IMAGES_FACTOR = 2


@dataclass(frozen=True)
class Options:
    """Measure how long training takes to begin."""

    backends: tuple[str, ...] = ("torch", "jax")
    """Backends to start: torch, jax, torch-compile, or several."""

    repeats: int = 5
    """Starts of every variant."""

    preset: str = "dcgan-64"
    """Preset whose first step is run."""

    batch_size: int | None = None
    """Images per update; the preset's own when not given."""

    resolution: int | None = None
    """Height and width of the images in pixels; the preset's own when not given."""

    width: float | None = None
    """Factor on the channel counts; the preset's own when not given."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""

    out: Path | None = None
    """JSON file; benchmarks/results/DEVICE-startup.json when not given."""


class Variant(NamedTuple):
    """One way to start.

    Attributes:
        name: as the results call it.
        settings: what is started.
        warm: whether the compilation cache holds what the variant before it left there.
    """

    name: str
    settings: Settings
    warm: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options), "groups that had finished are in the file")


def run(options: Options) -> None:
    """Start every variant ``repeats`` times and write what that took after each repeat.

    Raises:
        UserError: the preset, a size or a backend is unknown.
    """
    backends = available(options.backends, say)
    plain = [backend for backend in backends if CONTENDERS[backend].naive]
    if plain or options.repeats < 1:
        raise unexpected("backends, repeats", (*backends, options.repeats), "our own backends, at least once")
    with TemporaryDirectory() as temporary:
        variants = _variants(options, backends, _write_data(options, Path(temporary)))
        environment = {"TWIN_GAN_CACHE": str(Path(temporary) / "cache")}
        bench = Bench("startup", options.out)
        starts: dict[str, list[dict[str, Any]]] = {}
        for repeat in range(options.repeats):
            for number, variant in enumerate(variants):
                kept = Path(temporary) / f"compiled-{repeat}-{number - variant.warm}"
                own = {"JAX_COMPILATION_CACHE_DIR": str(kept), "TORCHINDUCTOR_CACHE_DIR": str(kept)}
                start = _start(variant.settings, {**environment, **own})
                starts.setdefault(variant.name, []).append(start)
                say(f"{variant.name}: {start.get('error') or format(start['seconds'], '.2f') + ' s'}")
            bench.rows = [_row(variant, starts[variant.name]) for variant in variants]
            bench.write()
    say(f"wrote {bench.out}")


def _write_data(options: Options, folder: Path) -> str:
    """Write noise as a file of images, decode it into the cache of this run, and return its path."""
    settings = Settings(options.preset, "torch", _batch_size(options), resolution=options.resolution)
    config = configuration(settings)
    file = folder / "noise.npy"
    np.save(file, noise(config).images[: IMAGES_FACTOR * config.training.batch_size])
    with cache_in(str(folder / "cache")):
        load(str(file), config.data.resolution, config.data.channels)
    return str(file)


def _batch_size(options: Options) -> int:
    return options.batch_size or presets.get_preset(options.preset).training.batch_size


def _variants(options: Options, backends: tuple[str, ...], data: str) -> list[Variant]:
    """Return what is started, in the order of starting."""
    variants = []
    for backend in backends:
        settings = Settings(
            preset=options.preset,
            backend=backend,
            batch_size=_batch_size(options),
            resolution=options.resolution,
            width=options.width,
            device=options.device,
            data=data,
        )
        configuration(settings)  # a wrong value is an error before anything is timed
        compiles = CONTENDERS[backend].framework == "jax" or backend == "torch-compile"
        if not compiles:
            variants.append(Variant(backend, settings))
        else:
            variants += [Variant(f"{backend} cold", settings), Variant(f"{backend} warm", settings, warm=True)]
    return variants


def _start(settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Start one process and return seconds until its imports and its first step were done, or its last line."""
    command = [sys.executable, "-m", "benchmarks.first_step"]
    everything = {**os.environ, **environment}
    started_at = time.time()
    done = subprocess.run(
        command, input=settings.to_line() + "\n", capture_output=True, text=True, cwd=ROOT, env=everything
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        return {"error": lines[-1][:300]}
    times = json.loads(done.stdout.splitlines()[-1])
    return {
        "seconds": times["first_step_at"] - started_at,
        "import_seconds": times["imported_at"] - started_at,
        "device": processor() if times["device"] == "cpu" else times["device"],
    }


def _row(variant: Variant, starts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the starts of one variant took."""
    about = {**asdict(variant.settings), "variant": variant.name, "data": "noise", "repeats": len(starts)}
    errors = [start["error"] for start in starts if "error" in start]
    if errors:
        return {**about, "error": errors[0]}
    seconds = [start["seconds"] for start in starts]
    return {
        **about,
        "device": starts[0]["device"],
        "first_step_seconds": median(seconds),
        "first_step_seconds_min": min(seconds),
        "first_step_seconds_max": max(seconds),
        "first_step_seconds_repeats": seconds,
        "import_seconds": median(start["import_seconds"] for start in starts),
    }


if __name__ == "__main__":
    sys.exit(main())
