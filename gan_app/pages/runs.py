"""The tab that shows what a run is, how it went, and what an audit of its images has found."""

import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from gan_app import auditing
from gan_app.context import ONE_AT_A_TIME, Context, answering
from gan_app.models import EXAMPLE
from gan_app.pages.choosing import choose_run, show_to_owners
from gan_app.pictures import picture
from gan_app.run_files import copied, is_shown
from gan_shared.errors import unexpected
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
NUMBERS = (
    *("step", "backend", "network", "num_images", "truncation"),
    *("fd", "kid", "precision", "recall", "modes", "modes_kl", "confident_share"),
)
# Columns of what an audit has found.
FINDINGS = ("kind", "images", "meaning", "some of them")
# Lines of a log that are shown.
LINES = 2000
# A sample grid, by its step.
GRID = re.compile(r"step-(\d+)\.png")


def build(context: Context) -> None:
    """Add the tab's fields to the page."""
    models = context.models
    run, _, _ = choose_run(context)
    with gr.Row():
        button = gr.Button("Show", variant="primary")
        audit = gr.Button("Audit its images", visible=False)
    show_to_owners(audit)
    with gr.Row():
        plot = gr.Plot(label="Curves")
        grid = picture("Newest samples", kind="filepath")
    table = gr.Dataframe(label="Evaluations", headers=list(NUMBERS), interactive=False)
    configuration = gr.JSON(label="Configuration")
    with gr.Accordion("Audit of its images", open=False, visible=False) as report:
        sheet = picture("Strongest findings", kind="filepath")
        findings = gr.Dataframe(label="Findings", headers=list(FINDINGS), datatype="str", wrap=True, interactive=False)
    audited = [report, sheet, findings]

    @answering(context, "show run")
    def show(name: str, request: gr.Request) -> tuple[Any, ...]:
        path = models.path(name)
        lines = scalars(path)
        config = read_json(path / "config.json") if is_shown(path / "config.json") else {}
        shown = (curves(lines), newest_samples(context, path), evaluations(path), config)
        return *shown, *_audited(context, path, is_open=False)

    @answering(context, "audit", role="owner", computes=True)
    def examine(name: str, request: gr.Request) -> tuple[Any, ...]:
        if name == EXAMPLE:
            raise unexpected("run", repr(name), "a run of the folder")
        path = models.path(name)
        context.auditor.run(path)
        return _audited(context, path, is_open=True)

    button.click(show, run, [plot, grid, table, configuration, *audited], api_name="show_run")
    audit.click(examine, run, audited, api_name="audit", **ONE_AT_A_TIME)


def _audited(context: Context, path: Path, *, is_open: bool) -> tuple[gr.Accordion, str | None, list[list[Any]]]:
    """Return what the page shows of a run's audit; where there is none, nothing."""
    rows, sheet = auditing.table(path), path / auditing.FOLDER / "audit.png"
    copy = copied(sheet, context.new_folder()) if rows and is_shown(sheet) else None
    return gr.Accordion(visible=bool(rows), open=is_open), copy, rows


def scalars(path: Path) -> list[dict[str, float]]:
    """Return the last lines of a run's scalars; none where there are none, or more than are shown."""
    return read_scalars(path)[-LINES:] if is_shown(path / "scalars.jsonl") else []


def newest_samples(context: Context, path: Path) -> str | None:
    """Return a copy of a run's newest sample grid, as files of runs are not served; None where there is none."""
    found = [(int(match[1]), file) for file in path.glob("samples/step-*.png") if (match := GRID.fullmatch(file.name))]
    newest = next((file for _, file in sorted(found, reverse=True) if is_shown(file)), None)
    return None if newest is None else copied(newest, context.new_folder())


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
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:] if is_shown(file) else ():
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
