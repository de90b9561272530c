"""What to expect of an H100, on paper: ``python -m benchmarks.expect --out docs/expected.md``; see ``NOTES``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from benchmarks.settings import without_files
from gan_shared import presets
from gan_shared.atomic import replacing
from gan_shared.command import guarded
from gan_shared.config import Config

# NVIDIA H100 SXM data sheet (2023), dense: FLOP per second, bytes per second.
PEAKS = {"float32": 67e12, "tf32": 494.7e12, "bfloat16": 989.4e12}
BANDWIDTH = 3.35e12
# What eager PyTorch takes for one small operation, on the host; the usual order of magnitude, not of this project.
LAUNCH_SECONDS = 5e-6
NOTES = """\
No figure here was measured on a GPU. The work of a step is counted on tensors without values (`benchmarks/work.py`)
and divided by what NVIDIA's data sheet of the H100 SXM says; the largest of three times is the least that a step can
take:

- arithmetic: FLOP of convolutions and matrix products over the peak of the precision,
- memory: bytes over the bandwidth, if every operation reads and writes memory for itself (fusing lowers it),
- launches: operations times the time that a kernel costs to be launched from Python; a CUDA graph or XLA's fused step
  takes most of it away."""


@dataclass(frozen=True)
class Options:
    """Estimate what an H100 reaches, and what limits it."""

    presets: Positional[tuple[str, ...]] = tuple(presets.PRESETS)
    """Presets, at their own sizes."""

    out: Path = Path("docs/expected.md")
    """Markdown file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options))


def run(options: Options) -> None:
    """Count every preset and write the table.

    Raises:
        UserError: a preset is unknown.
    """
    lines = [line for name in options.presets for line in expected(presets.get_preset(name))]
    header = ("preset", "batch", "GFLOP/image", "MB/image", "operations/step", "precision", "images/s at most", "binds")
    rows = [header, tuple("---" for _ in header), *lines]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    with replacing(options.out) as temporary:
        temporary.write_text(f"# Expected of an H100\n\n{NOTES}\n\n{table}\n", encoding="utf-8")
    print(f"wrote {options.out}")


def least_seconds(flops: float, moved: float, operations: float, precision: str) -> dict[str, float]:
    """Return how long a step takes at least by each of what limits it: ``arithmetic``, ``memory``, ``launches``.

    Args:
        flops: of its convolutions and matrix products.
        moved: bytes that it reads and writes.
        operations: kernels that it launches.
        precision: of the run.
    """
    return {
        "arithmetic": flops / PEAKS[precision],
        "memory": moved / BANDWIDTH,
        "launches": operations * LAUNCH_SECONDS,
    }


def expected(config: Config) -> list[tuple[str, ...]]:
    """Return the lines of one preset: one per precision, first for eager PyTorch, then without launches."""
    from benchmarks.work import bytes_in_precision, count

    config = without_files(config)
    work = count(config)
    lines = []
    for precision in PEAKS:
        moved = bytes_in_precision(config.with_options(precision=precision), work)
        times = least_seconds(work.flops, moved, work.operations, precision)
        slowest = max(times, key=lambda name: times[name])
        speed = f"{config.training.batch_size / times[slowest]:,.0f}"
        if slowest == "launches":
            rest = max(times["arithmetic"], times["memory"])
            speed += f" ({config.training.batch_size / rest:,.0f} without launches)"
        per_image = (
            f"{work.flops / config.training.batch_size / 1e9:.2f}",
            f"{work.bytes / config.training.batch_size / 1e6:.0f}",
        )
        lines.append(
            (
                config.preset,
                str(config.training.batch_size),
                *per_image,
                str(work.operations),
                precision,
                speed,
                slowest,
            )
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
