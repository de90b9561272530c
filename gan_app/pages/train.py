"""The tab that trains a small run, on pictures that are uploaded or on a set known by name; for owners."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from matplotlib.figure import Figure

from gan_app.context import Context, answering, check_number, user_of
from gan_app.models import EXAMPLE
from gan_app.pages.choosing import choose_backend
from gan_app.pages.runs import curves, newest_samples, scalars
from gan_app.pictures import picture
from gan_shared.data import load
from gan_shared.errors import UserError, unexpected
from gan_shared.presets import PRESETS

# Presets that need options, or pictures, that the page does not ask for; sets that are there or are fetched once.
LEFT_OUT = ("vgg-inversion", "lapgan", "r3gan-ffhq-64", "r3gan-ffhq-256")
SETS = ("mnist-5k", "mnist", "fashion-mnist", "stacked-mnist")
UPLOADED = "my pictures"
# Files that are a whole set.
WHOLE = (".zip", ".tar", ".npz", ".npy")
# Seconds between two looks at a training.
EVERY = 3


class Fields(NamedTuple):
    """Fields of the page.

    Attributes:
        run: what a new run is made from, in the order of its handler.
        name: of the run, to go on with it.
        steps: likewise.
        backend: likewise.
        doomed: name of a run to delete.
        start: button that begins a run.
        stop: button that ends it.
        go_on: button that prolongs it.
        delete: button that removes one.
    """

    run: list[Any]
    name: gr.Textbox
    steps: gr.Number
    backend: gr.Radio
    doomed: gr.Textbox
    start: gr.Button
    stop: gr.Button
    go_on: gr.Button
    delete: gr.Button


def build(context: Context) -> None:
    """Add the tab's fields to the page."""
    with gr.Row():
        with gr.Column(scale=1):
            fields = _add_fields(context)
        with gr.Column(scale=2):
            status = gr.Markdown()
            _add_watching(context, status)
    _add_handlers(context, fields, status)


def _add_fields(context: Context) -> Fields:
    """Add what is asked for."""
    name = gr.Textbox("my-run", label="Name of the run")
    choices = [each for each in PRESETS if each not in LEFT_OUT]
    preset = gr.Dropdown(choices, value="dcgan", label="Preset")
    data = gr.Radio([*SETS, UPLOADED], value=SETS[0], label="Pictures")
    files = gr.File(
        label="A ZIP, or pictures",
        file_count="multiple",
        file_types=["image", *WHOLE],
        type="filepath",
        height=200,
    )
    with gr.Row():
        resolution = gr.Textbox("", label="Resolution", info="In pixels; the preset's when empty.")
        batch = gr.Textbox("", label="Batch size", info="At most all pictures; the preset's when empty.")
    steps = gr.Number(2000, label="Steps", precision=0, minimum=1)
    backend = choose_backend(context)
    with gr.Row():
        start = gr.Button("Train", variant="primary")
        stop = gr.Button("Stop and save")
        go_on = gr.Button("Go on")
    with gr.Accordion("Delete a run", open=False):
        doomed = gr.Textbox("", label="Name of the run, once more")
        delete = gr.Button("Delete", variant="stop")
    run = [name, preset, data, files, resolution, batch, steps, backend]
    return Fields(run, name, steps, backend, doomed, start, stop, go_on, delete)


def _add_handlers(context: Context, fields: Fields, status: gr.Markdown) -> None:
    """Add what the buttons do; each says how the training goes."""
    models, trainer = context.models, context.trainer

    @answering(context, "train", role="owner")
    def begin(
        name: str,
        preset: str,
        data: str,
        files: list[str] | None,
        resolution: str,
        batch: str,
        steps: float,
        backend: str,
        request: gr.Request,
    ) -> str:
        trainer.check_name(name)
        if trainer.running:
            raise UserError(f"{trainer.name} is being trained: one training at a time")
        number = check_number("steps", steps, context.limits.steps)
        if backend not in models.backends:
            raise unexpected("backend", repr(backend), "one that is installed", models.backends)
        sizes = [*_option("resolution", resolution), *_option("batch_size", batch)]
        found = upload(context, name, files or []) if data == UPLOADED else data
        few = ["--sample-every", str(max(1, number // 20)), "--log-every", str(max(1, min(20, number // 20)))]
        trainer.start(name, backend, [preset, "--data", found, "--steps", str(number), *sizes, *few])
        return trainer.status()

    @answering(context, "stop training", role="owner")
    def end(request: gr.Request) -> str:
        trainer.stop()
        return trainer.status()

    @answering(context, "go on training", role="owner")
    def resume(name: str, steps: float, backend: str, request: gr.Request) -> str:
        if name == EXAMPLE:
            raise unexpected("name", repr(name), "a run of the folder")
        models.path(name)
        if backend not in models.backends:
            raise unexpected("backend", repr(backend), "one that is installed", models.backends)
        trainer.resume(name, backend, check_number("steps", steps, context.limits.steps))
        return trainer.status()

    @answering(context, "delete run", role="owner")
    def remove(name: str, request: gr.Request) -> str:
        trainer.delete(name, listed=name != EXAMPLE and name in models.names())
        return f"{name} is deleted."

    fields.start.click(begin, fields.run, status, api_name="train")
    fields.stop.click(end, None, status, api_name="stop_training")
    fields.go_on.click(resume, [fields.name, fields.steps, fields.backend], status, api_name="go_on_training")
    fields.delete.click(remove, fields.doomed, status, api_name="delete_run")


def _add_watching(context: Context, status: gr.Markdown) -> None:
    """Add the places of curves and samples, and look at the training every few seconds."""
    trainer = context.trainer
    plot = gr.Plot(label="Curves")
    samples = picture("Newest samples", kind="filepath")
    seen = gr.State("")

    def look(shown: str, request: gr.Request) -> tuple[str | Any, Figure | Any, str | Any, str]:
        if user_of(request).role != "owner":
            return gr.skip(), gr.skip(), gr.skip(), shown
        path = trainer.folder / trainer.name
        if not trainer.name or not path.is_dir():
            return trainer.status(), gr.skip(), gr.skip(), shown
        lines = scalars(path)
        now = f"{trainer.name} {len(lines)} {lines[-1]['step'] if lines else 0}"
        if now == shown:  # nothing is drawn or copied anew
            return trainer.status(), gr.skip(), gr.skip(), shown
        return trainer.status(), curves(lines), newest_samples(context, path) or gr.skip(), now

    outputs = [status, plot, samples, seen]
    gr.Timer(EVERY).tick(look, seen, outputs, show_progress="hidden", api_visibility="private")


def _option(name: str, text: str) -> list[str]:
    """Return an option of ``train`` that is a whole number; none where the field is empty."""
    if text.strip() and not (text.strip().isascii() and text.strip().isdigit()):
        raise unexpected(name, repr(text), "a whole number, or nothing")
    return [f"--{name.replace('_', '-')}", text.strip()] if text.strip() else []


def upload(context: Context, name: str, files: Sequence[str]) -> str:
    """Move uploaded pictures to where a run finds them, once they have been read as the command line reads them.

    Returns:
        What --data takes: a file, or the folder of several.

    Raises:
        UserError: there are none, or they cannot be used; nothing of them is left then.
    """
    if not files:
        raise unexpected("pictures", "none", "a ZIP or pictures to upload")
    context.trainer.check_name(name)
    folder = context.trainer.uploads(name)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that never began
    folder.mkdir(parents=True)
    try:
        names = [Path(file).name for file in files]
        twice = next((each for each in names if names.count(each) > 1), None)
        if twice is not None:
            raise unexpected("pictures", f"two files called {twice}", "names that stand for one file each")
        whole = [each for each in names if Path(each).suffix.lower() in WHOLE]
        if whole and len(names) > 1:
            raise unexpected("pictures", f"{whole[0]} beside other files", "one archive or array, or pictures")
        for file in files:
            shutil.move(file, folder / Path(file).name)
        found = folder / Path(files[0]).name if len(files) == 1 else folder
        if len(files) == 1 and not whole:
            found = folder
        load(str(found), 32, None)
    except (UserError, OSError):
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return str(found)
