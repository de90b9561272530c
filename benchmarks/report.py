"""Tables and plots of results: ``python -m benchmarks.report FILE... --readme docs/performance.md``.

The first table says by what factor one contender is faster than another: the ratio of the medians, and in brackets the
least and the greatest ratio of any one round, in which the two took turns. The same files give the same text.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import Positional

from benchmarks import plots
from benchmarks.harness import say
from gan_shared.atomic import replacing
from gan_shared.command import guarded
from gan_shared.errors import unexpected
from gan_shared.markdown import table, with_section

# Pairs of contenders whose ratio is reported.
RATIOS = (
    ("torch", "torch-naive"),
    ("torch-compile", "torch-naive"),
    ("jax", "jax-naive"),
    ("jax", "torch"),
    ("jax-16", "torch-compile"),
    ("torch-compile", "torch"),
    ("torch-graph", "torch"),
    ("jax-16", "jax"),
    ("torch-benchmark", "torch"),
    ("torch-graph-benchmark", "torch-graph"),
    ("jax-latency-hiding", "jax"),
    ("jax-without-triton", "jax"),
)
BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"
KINDS = ("throughput", "scaling", "input", "startup")

Row = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """Make tables and plots of what the benchmarks wrote."""

    files: Positional[tuple[Path, ...]]
    """JSON files of benchmarks/results."""

    readme: Path | None = None
    """File whose text between the two performance marks is replaced by the main tables."""

    out: Path = Path("docs/performance-measured.md")
    """Markdown file; plots are written beside it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = tyro.cli(Options, args=argv)
    return guarded(lambda: run(options))


def run(options: Options) -> None:
    """Write the report, its plots and, where asked for, the part of the README.

    Raises:
        UserError: a file is no result, or the README has no marks.
    """
    results = [read(file) for file in options.files]
    if not results:
        raise unexpected("files", "none", "at least one JSON file that a benchmark wrote")
    main_tables = "\n\n".join(text for result in _of(results, "throughput") for text in throughput(result))
    if options.readme is not None:
        # First, so that a README without marks is an error before anything is written.
        replaced = with_section(options.readme, main_tables, BEGIN, END)
        _write(options.readme, replaced)
    drawn = plots.draw(results, options.out.parent)
    _write(options.out, document(results, drawn))
    say(f"wrote {', '.join(str(path) for path in (options.out, *drawn))}")


def read(file: Path) -> Result:
    """Read one result.

    Raises:
        UserError: it is none.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        if result["benchmark"] in KINDS and isinstance(result["rows"], list):
            return result
    except (ValueError, KeyError, TypeError) as error:
        raise unexpected(str(file), "no result", "JSON that a benchmark wrote") from error
    raise unexpected(str(file), f"a result of {result['benchmark']}", "one of a known benchmark", KINDS)


def document(results: Sequence[Result], drawn: Sequence[Path]) -> str:
    """Return the whole report as Markdown."""
    parts = ["# Performance", "Written by `python -m benchmarks.report`; ratios above 1 are faster."]
    tables: dict[str, Callable[[Result], Iterator[str]]] = {
        "throughput": throughput,
        "scaling": scaling,
        "input": inputs,
        "startup": startup,
    }
    for kind, make in tables.items():
        found = _of(results, kind)
        if not found:
            continue
        parts.append(f"## {kind.capitalize()}")
        for result in found:
            parts += [*make(result), *failures(result), *probes(result)]
        parts += [f"![{path.stem}]({path.name})" for path in drawn if path.stem.endswith(kind)]
    return "\n\n".join(parts) + "\n"


def throughput(result: Result) -> Iterator[str]:
    """Yield where and when, the table of ratios and the table of absolute figures."""
    yield where(result)
    rows = _good(result)
    yield table(("preset", "batch", "precision", "compared", "times as fast"), ratios(rows))
    yield _absolute(rows, ())


def ratios(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of the table of ratios: of the medians, and the range of the ratios of single rounds."""

    def group(row: Row) -> tuple[Any, ...]:
        return row["preset"], row["batch_size"], row["precision"], row["resolution"], row["width"]

    lines = []
    for (preset, batch_size, precision, *_), members in groupby(rows, group):
        by_backend = {row["backend"]: row for row in members}
        for one, other in RATIOS:
            if one not in by_backend or other not in by_backend:
                continue
            first, second = by_backend[one], by_backend[other]
            speeds = zip(first["images_per_second_rounds"], second["images_per_second_rounds"], strict=False)
            single = [a / b for a, b in speeds]
            ratio = first["images_per_second"] / second["images_per_second"]
            text = f"{ratio:.2f} ({min(single):.2f} to {max(single):.2f})"
            lines.append((preset, str(batch_size), precision, f"{one} / {other}", text))
    return lines


def scaling(result: Result) -> Iterator[str]:
    """Yield where and when, and one table per sweep."""
    yield where(result)
    for sweep in dict.fromkeys(row["sweep"] for row in _good(result)):
        yield f"### By {sweep.replace('_', ' ')}"
        yield _absolute([row for row in _good(result) if row["sweep"] == sweep], ("resolution", "width"))


def inputs(result: Result) -> Iterator[str]:
    """Yield where and when, and the table of waiting for data."""
    yield where(result)
    header = ("data", "preset", "pixels", "backend", "data on", "waiting", "images/s", "decoding (ms an image)")
    lines = []
    for row in _good(result):
        low, high = min(row["share_waiting_rounds"]), max(row["share_waiting_rounds"])
        waiting = f"{row['share_waiting']:.1%} ({low:.1%} to {high:.1%})"
        decoding = f"{1000 * row['decode_seconds_per_image']:.2f}"
        about = row["data"], row["preset"], str(row["resolution"]), row["backend"], row["data_on"]
        lines.append((*about, waiting, _speed(row), decoding))
    yield table(header, lines)


def startup(result: Result) -> Iterator[str]:
    """Yield where and when, and the table of starts."""
    yield where(result)
    lines = []
    for row in _good(result):
        low, high = row["first_step_seconds_min"], row["first_step_seconds_max"]
        first = f"{row['first_step_seconds']:.1f} ({low:.1f} to {high:.1f})"
        lines.append((row["preset"], str(row["batch_size"]), row["variant"], first, f"{row['import_seconds']:.1f}"))
    yield table(("preset", "batch", "variant", "first step finished after (s)", "imports done after (s)"), lines)


def probes(result: Result) -> Iterator[str]:
    """Yield the table of what the device can do at best; nothing where it was not asked."""
    lines = [
        (
            probe["framework"],
            probe["precision"],
            f"{probe['matmul_flops_per_second'] / 1e9:.0f}",
            f"{probe['conv_flops_per_second'] / 1e9:.0f}",
        )
        for probe in result["probes"]
    ]
    if lines:
        yield table(("framework", "precision", "matrix product (GFLOP/s)", "3x3 convolution (GFLOP/s)"), lines)


def failures(result: Result) -> Iterator[str]:
    """Yield a list of the cells that failed; nothing where none did."""
    failed = [row for row in result["rows"] if "error" in row]
    if failed:
        lines = (f"- {row['preset']}, {row['backend']}, batch {row['batch_size']}: {row['error']}" for row in failed)
        yield "Not measured:\n\n" + "\n".join(lines)


def where(result: Result) -> str:
    """Return machine, versions and date in a sentence or two."""
    machine = result["machine"]
    devices = list(dict.fromkeys(row["device"] for row in _good(result)))
    memory = f", {machine['memory_bytes'] / 2**30:.0f} GiB of memory" if machine.get("memory_bytes") else ""
    versions = ", ".join(f"{name} {number}" for name, number in sorted(result["versions"].items()))
    return (
        f"On {', '.join(devices) or machine['processor']} ({machine['processor']}, {machine['cores']} cores{memory}, "
        f"{machine['system']}, Python {machine['python']}), {machine['date'][:10]}: {versions}."
    )


def _absolute(rows: Sequence[Row], more: tuple[str, ...]) -> str:
    """Return the table of figures per cell, with columns for what else changes between them."""
    header = ("preset", "batch", "precision", *more, "backend", "images/s", "of peak", "compiling (s)")
    header = (*header, "first step after (s)", "host memory (MB)", "device memory (MB)")
    lines = []
    for row in rows:
        of_peak = "" if row["fraction_of_peak"] is None else f"{row['fraction_of_peak']:.0%}"
        about = row["preset"], str(row["batch_size"]), row["precision"], *(f"{row[name]:g}" for name in more)
        start = f"{row['compile_seconds']:.1f}", f"{row['first_step_seconds']:.1f}"
        memory = (_megabytes(row[name]) for name in ("peak_host_bytes", "peak_device_bytes"))
        lines.append((*about, row["backend"], _speed(row), of_peak, *start, *memory))
    return table(header, lines)


def _speed(row: Row) -> str:
    """Return the median of images per second, and its range over the rounds."""
    low, high = row["images_per_second_min"], row["images_per_second_max"]
    return f"{_three_digits(row['images_per_second'])} ({_three_digits(low)} to {_three_digits(high)})"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f}"


def _good(result: Result) -> list[Row]:
    """Return the rows that are not errors."""
    return [row for row in result["rows"] if "error" not in row]


def _of(results: Sequence[Result], kind: str) -> list[Result]:
    """Return the results of one benchmark."""
    return [result for result in results if result["benchmark"] == kind]


def _write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
