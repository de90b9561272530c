"""Plots of results, without a window and without anything that changes from one drawing to the next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from gan_shared.atomic import replacing

# One colour per framework, paler where it is not ours.
COLOURS = {
    "torch": "#d1495b",
    "torch-compile": "#8d2f3c",
    "torch-naive": "#e9a4ad",
    "jax": "#30638e",
    "jax-naive": "#98b1c6",
}
SWEEPS = {"batch_size": "images per batch", "resolution": "pixels", "width": "factor on channels"}
WIDE, HIGH = 5.0, 3.6


def draw(results: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw what there is of throughput and scaling into ``folder``.

    Returns:
        The files: ``performance-throughput.png``, ``performance-scaling.png``.
    """
    drawn = []
    for kind, plot in (("throughput", _throughput), ("scaling", _scaling)):
        of_kind = [result for result in results if result["benchmark"] == kind]
        rows = [[row for row in result["rows"] if "error" not in row] for result in of_kind]
        rows = [each for each in rows if each]
        if rows:
            path = folder / f"performance-{kind}.png"
            with replacing(path) as temporary:
                # Without its version, which matplotlib would write there.
                plot(rows).savefig(temporary, format="png", dpi=120, metadata={"Software": None})
            drawn.append(path)
    return drawn


def _throughput(results: list[list[dict[str, Any]]]) -> Figure:
    """Draw a bar per cell, one row of axes per result and one column per preset, with the range of its rounds."""
    presets = list(dict.fromkeys(row["preset"] for rows in results for row in rows))
    figure = Figure(figsize=(WIDE * len(presets), HIGH * len(results)), layout="constrained")
    grid = figure.subplots(len(results), len(presets), squeeze=False)
    for rows, line in zip(results, grid, strict=True):
        for preset, axes in zip(presets, line, strict=True):
            _bars(axes, [row for row in rows if row["preset"] == preset])
            axes.set_title(f"{preset}, {rows[0]['device']}", fontsize=9)
    return figure


def _bars(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw one bar per row, the first on top."""
    speeds = [row["images_per_second"] for row in rows]
    below = [row["images_per_second"] - row["images_per_second_min"] for row in rows]
    above = [row["images_per_second_max"] - row["images_per_second"] for row in rows]
    places = list(range(len(rows)))
    axes.barh(places, speeds, xerr=(below, above), color=[COLOURS[row["backend"]] for row in rows], height=0.7)
    axes.set_yticks(places, [f"{row['backend']}, {row['batch_size']}, {row['precision']}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("images per second")


def _scaling(results: list[list[dict[str, Any]]]) -> Figure:
    """Draw a line per backend, one row of axes per result and one column per sweep, both axes logarithmic."""
    figure = Figure(figsize=(WIDE * len(SWEEPS), HIGH * len(results)), layout="constrained")
    grid = figure.subplots(len(results), len(SWEEPS), squeeze=False)
    for rows, line in zip(results, grid, strict=True):
        for (sweep, label), axes in zip(SWEEPS.items(), line, strict=True):
            _lines(axes, [row for row in rows if row["sweep"] == sweep], sweep)
            axes.set_xlabel(label)
            axes.set_title(f"{rows[0]['preset']}, {rows[0]['device']}", fontsize=9)
        line[0].set_ylabel("images per second")
    return figure


def _lines(axes: Axes, rows: list[dict[str, Any]], sweep: str) -> None:
    """Draw one line per backend, with the range of the rounds around it."""
    if not rows:
        return
    for backend in dict.fromkeys(row["backend"] for row in rows):
        own = sorted((row for row in rows if row["backend"] == backend), key=lambda row: row[sweep])
        places = [row[sweep] for row in own]
        axes.plot(places, [row["images_per_second"] for row in own], "o-", color=COLOURS[backend], label=backend)
        low, high = ([row[f"images_per_second_{end}"] for row in own] for end in ("min", "max"))
        axes.fill_between(places, low, high, color=COLOURS[backend], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    ticks = sorted({row[sweep] for row in rows})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.legend(fontsize=8)
