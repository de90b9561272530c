"""The fields that most tabs begin with: which run, which checkpoint, which backend, which classes."""

from typing import NamedTuple

import gradio as gr
from gradio.context import Context as Building

from gan_app.context import Context
from gan_app.models import NEWEST
from gan_shared.errors import UserError


class Choice(NamedTuple):
    """Fields of the page.

    Attributes:
        run: the run.
        checkpoint: of the run.
        backend: that computes; None where a tab uses all of them.
        classes: to make in turn.
    """

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    backend: gr.Radio | None
    classes: gr.Dropdown


def choose(context: Context, *, with_backend: bool = True) -> Choice:
    """Add the fields to the page."""
    models = context.models
    names = models.names()
    with gr.Row():
        run = gr.Dropdown(names, value=names[0], label="Run", scale=3)
        refresh = gr.Button("Look again", scale=0, min_width=100)
    checkpoint = gr.Dropdown([NEWEST], value=NEWEST, label="Checkpoint")
    labels = {"torch": "PyTorch", "jax": "JAX"}
    backend = None
    if with_backend:
        choices = [(labels[name], name) for name in models.backends]
        backend = gr.Radio(choices, value=models.backends[0], label="Backend")
    classes = gr.Dropdown([], value=[], multiselect=True, label="Classes, in turn", visible=False)

    def look_again(chosen: str) -> gr.Dropdown:
        now = models.names()
        return gr.Dropdown(now, value=chosen if chosen in now else now[0])

    def describe(name: str) -> tuple[gr.Dropdown, gr.Dropdown]:
        try:
            found, names = models.checkpoints(name), models.class_names(name)
        except (UserError, OSError):
            found, names = [NEWEST], ()
        return (
            gr.Dropdown(found, value=NEWEST),
            gr.Dropdown(list(names), value=[], visible=bool(names)),
        )

    # Runs come and go while the page is built once: what there is now is looked up when the page is opened.
    page = Building.root_block
    assert page is not None, "the fields are built inside of a page"
    refresh.click(look_again, run, run, show_progress="hidden")
    page.load(look_again, run, run, show_progress="hidden")
    gr.on([run.change, page.load, refresh.click], describe, run, [checkpoint, classes], show_progress="hidden")
    return Choice(run, checkpoint, backend, classes)
