"""Images per second of training: ``python -m benchmarks.throughput --help``.

A cell is a preset, a backend, a batch size and a precision, in a process of its own. The cells that do the same work
(one preset, batch size and precision) take turns, A B A B ..., for some seconds each; medians and spreads are over the
rounds. Batches are real ones, drawn from uint8 noise by ``gan_shared.data.batches``. The device is synchronised at the
end of every timed chunk of steps and nowhere inside, on a GPU too.

The contenders are listed in ``settings.py``: ``torch`` and ``jax`` are the twins, with ``--compile``
(``torch-compile``), ``--cuda-graph`` (``torch-graph``) or 16 steps a call (``jax-16``); ``torch-naive`` and
``jax-naive`` are what plain implementations of the same networks do (``naive_torch.py``, ``naive_jax.py``), which keep
no average of the generator; the others set a switch of their framework that may pay on a GPU.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import tyro
from tyro.conf import OmitArgPrefixes

from benchmarks.harness import Bench, Plan, say
from benchmarks.settings import Settings, available, configuration
from gan_shared.command import guarded


@dataclass(frozen=True)
class Options:
    """Time the training steps of the twins and of plain implementations, in turns."""

    plan: OmitArgPrefixes[Plan]

    presets: tuple[str, ...] = ("dcgan-64", "r3gan-tiny")
    """Presets whose steps are timed."""

    backends: tuple[str, ...] = ("torch", "jax", "torch-compile", "torch-naive", "jax-naive")
    """Backends to measure: torch, jax, torch-compile, torch-graph, torch-naive, jax-naive, or others of settings.py."""

    batch_sizes: tuple[int, ...] = (64,)
    """Images per update."""

    precisions: tuple[str, ...] = ("float32",)
    """Floating-point types: float32, tf32, bfloat16, float64 (the plain implementations: not float64)."""

    width: float | None = None
    """Factor on the channel counts; the preset's own when not given."""

    resolution: int | None = None
    """Height and width of the images in pixels; the preset's own when not given."""

    device: str = "auto"
    """Where to compute: cpu, gpu, or auto (a GPU when there is one)."""

    steps_per_call: int = 1
    """Steps that our backends are handed at once."""

    recompute: bool = False
    """Gradient checkpointing of VGG16: its activations are computed again instead of kept; vgg-inversion alone."""

    out: Path | None = None
    """JSON file; benchmarks/results/DEVICE-throughput.json when not given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv, default=Options(Plan()))
    return guarded(lambda: run(options), "groups that had finished are in the file")


def run(options: Options) -> None:
    """Measure every group and write the file after each.

    Raises:
        UserError: a preset, a size or a backend is unknown.
    """
    backends = available(options.backends, say)
    groups = [
        [
            Settings(
                preset=preset,
                backend=backend,
                batch_size=batch_size,
                precision=precision,
                resolution=options.resolution,
                width=options.width,
                device=options.device,
                steps_per_call=options.steps_per_call,
                recompute=options.recompute,
            )
            for backend in backends
        ]
        for preset, batch_size, precision in product(options.presets, options.batch_sizes, options.precisions)
    ]
    for group in groups:
        for settings in group:
            configuration(settings)  # a wrong value is an error before anything is timed
    bench = Bench("throughput", options.out, options.plan)
    for group in groups:
        bench.measure(group)
    say(f"wrote {bench.out}")


if __name__ == "__main__":
    sys.exit(main())
