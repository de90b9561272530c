"""How speed follows batch size, resolution and width: ``python -m benchmarks.scaling --help``.

Three sweeps around a preset's own values, one thing changed at a time; cells, rounds and rows are those of
``throughput``, with the name of the sweep in each row. A width scales all channel counts; a resolution changes the
depth of a DCGAN as well.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro
from tyro.conf import OmitArgPrefixes

from benchmarks.harness import Bench, Plan, say
from benchmarks.settings import Settings, available, configuration
from gan_shared import presets
from gan_shared.command import guarded


@dataclass(frozen=True)
class Options:
    """Time training steps over batch sizes, resolutions and widths, one changed at a time."""

    plan: OmitArgPrefixes[Plan] = field(default_factory=lambda: Plan(rounds=5))

    preset: str = "dcgan-64"
    """Preset whose steps are timed."""

    backends: tuple[str, ...] = ("torch", "jax")
    """Backends to measure: torch, jax, torch-compile, torch-graph, torch-naive, jax-naive, or others of settings.py."""

    batch_sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Images per update."""

    resolutions: tuple[int, ...] = (32, 64, 128)
    """Heights and widths of the images in pixels."""

    widths: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Factors on the channel counts."""

    precision: str = "float32"
    """Floating-point type: float32, tf32, bfloat16 or float64."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""

    out: Path | None = None
    """JSON file; benchmarks/results/DEVICE-scaling.json when not given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options), "groups that had finished are in the file")


def run(options: Options) -> None:
    """Measure every point of the three sweeps.

    Raises:
        UserError: the preset, a size or a backend is unknown.
    """
    backends = available(options.backends, say)
    points = [
        (sweep, [replace(settings, backend=backend) for backend in backends]) for sweep, settings in _points(options)
    ]
    for _, group in points:
        for settings in group:
            configuration(settings)  # a wrong value is an error before anything is timed
    bench = Bench("scaling", options.out, options.plan)
    for sweep, group in points:
        bench.measure(group, {"sweep": sweep})
    say(f"wrote {bench.out}")


def _points(options: Options) -> Iterator[tuple[str, Settings]]:
    """Yield the name of a sweep and the settings of one point on it."""
    own = presets.get_preset(options.preset).training.batch_size
    middle = Settings(options.preset, "torch", own, options.precision, device=options.device)
    for batch_size in options.batch_sizes:
        yield "batch_size", replace(middle, batch_size=batch_size)
    for resolution in options.resolutions:
        yield "resolution", replace(middle, resolution=resolution)
    for width in options.widths:
        yield "width", replace(middle, width=width)


if __name__ == "__main__":
    sys.exit(main())
