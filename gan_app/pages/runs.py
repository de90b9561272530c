"""The tab that shows what a run is and how it went."""

import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from gan_app.context import Context, answering
from gan_app.pages.choosing import choose_run
from gan_app.pictures import picture
from gan_shared.manifest import read_json
from gan_shared.runlog import METRICS, read_scalars

matplotlib.use("Agg")  # no window is opened on a server
# Curves of a run, in one picture each: title, and columns of scalars.jsonl.
CURVES = (
    ("losses", ("discriminator_loss", "generator_loss")),
    ("logits", ("real_logit", "fake_logit")),
    ("images a second", ("images_per_second",)),
)
# Numbers of an evaluation that the table shows, where they are there.
NUMBERS = ("step", "network", "num_images", "fd", "kid", "precision", "recall", "modes", "modes_kl", "confident_share")
# Lines of a log that are shown, and bytes of a file that is read for them.
LINES, MAX_BYTES = 2000, 10 * 10**6
# A sample grid, by its step.
GRID = re.compile(r"step-(\d+)\.png")


def build(context: Context) -> None:
    """Add the tab's fields to the page."""
    models = context.models
    run, _, _ = choose_run(context)
    button = gr.Button("Show", variant="primary")
    with gr.Row():
        plot = gr.Plot(label="Curves")
        grid = picture("Newest samples", kind="filepath")
    table = gr.Dataframe(label="Evaluations", headers=list(NUMBERS), interactive=False)
    configuration = gr.JSON(label="Configuration")

    @answering(context, "show run")
    def show(name: str, request: gr.Request) -> tuple[Figure, Any, list[list[Any]], dict[str, Any]]:
        path = models.path(name)
        lines = scalars(path)
        config = read_json(path / "config.json") if _is_shown(path / "config.json") else {}
        return curves(lines), newest_samples(context, path), evaluations(path), config

    button.click(show, run, [plot, grid, table, configuration], api_name="show_run")


def scalars(path: Path) -> list[dict[str, float]]:
    """Return the last lines of a run's scalars; none where there are none, or more than are shown."""
    return read_scalars(path)[-LINES:] if _is_shown(path / "scalars.jsonl") else []


def _is_shown(file: Path) -> bool:
    """Return whether a file of a run is one, and not too large to be read at a request."""
    return file.is_file() and not file.is_symlink() and file.stat().st_size <= MAX_BYTES


def newest_samples(context: Context, path: Path) -> str | None:
    """Return a copy of a run's newest sample grid, as files of runs are not served; None where there is none."""
    found = [(int(match[1]), file) for file in path.glob("samples/step-*.png") if (match := GRID.fullmatch(file.name))]
    # A run may come from a stranger: a link could lead anywhere.
    newest = next((file for _, file in sorted(found, reverse=True) if not file.is_symlink()), None)
    if newest is None or newest.parent.is_symlink():
        return None
    copied = context.new_folder() / newest.name
    copied.write_bytes(newest.read_bytes())
    return str(copied)


def curves(lines: list[dict[str, float]]) -> Figure:
    """Draw the curves of a run's scalars."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    all_axes = figure.subplots(len(CURVES), sharex=True)
    for axes, (title, columns) in zip(all_axes, CURVES, strict=True):
        for column in columns:
            points = [(line["step"], line[column]) for line in lines if np.isfinite(line.get(column, np.nan))]
            if points:
                axes.plot(*zip(*points, strict=True), label=column.replace("_", " "))
        axes.set_title(title if lines else f"{title}: none yet", fontsize=9)
        if lines:
            axes.legend(fontsize=8)
    all_axes[-1].set_xlabel("step")
    return figure


def evaluations(path: Path) -> list[list[Any]]:
    """Return the rows of the table of evaluations; lines that cannot be read are left out."""
    rows = []
    file = path / METRICS
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:] if _is_shown(file) else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            rows.append([_short(line.get(name)) for name in NUMBERS])
    return rows


def _short(value: object) -> object:
    """Return a number with the digits that matter."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
