"""Fields that several tabs have: which run, which checkpoint, which backend, which classes; and what owners see."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr
from gradio.context import Context as Building

from gan_app.context import Context, user_of
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

    def fields(self) -> list[gr.Dropdown | gr.Radio]:
        """Return those that the tab has, in this order."""
        return [each for each in self if each is not None]


def choose_run(context: Context) -> tuple[gr.Dropdown, gr.Button, Callable[..., Any]]:
    """Add the field of a run to the page.

    Returns:
        The field, the button that looks for runs again, and the event of the page being opened, which does so too.
    """
    models = context.models
    names = models.names()
    with gr.Row():
        run = gr.Dropdown(names, value=names[0], label="Run", scale=3)
        refresh = gr.Button("Look again", scale=0, min_width=100)

    def look_again(chosen: str) -> gr.Dropdown:
        now = models.names()
        return gr.Dropdown(now, value=chosen if chosen in now else now[0])

    # Runs come and go while the page is built once: what there is now is looked up when the page is opened.
    page = _page()
    gr.on([refresh.click, page.load], look_again, run, run, show_progress="hidden", api_visibility="private")
    return run, refresh, page.load


def choose(context: Context, *, with_backend: bool = True) -> Choice:
    """Add the fields to the page."""
    models = context.models
    run, refresh, opened = choose_run(context)
    checkpoint = gr.Dropdown([NEWEST], value=NEWEST, label="Checkpoint")
    backend = choose_backend(context) if with_backend else None
    classes = gr.Dropdown([], value=[], multiselect=True, label="Classes, in turn", visible=False)

    def describe(name: str) -> tuple[gr.Dropdown, gr.Dropdown]:
        try:
            found, names = models.checkpoints(name), models.class_names(name)
        except (UserError, OSError):
            found, names = [NEWEST], ()
        return gr.Dropdown(found, value=NEWEST), gr.Dropdown(list(names), value=[], visible=bool(names))

    events = [run.change, opened, refresh.click]
    gr.on(events, describe, run, [checkpoint, classes], show_progress="hidden", api_visibility="private")
    return Choice(run, checkpoint, backend, classes)


def choose_backend(context: Context) -> gr.Radio:
    """Add the field of a backend to the page."""
    names = {"torch": "PyTorch", "jax": "JAX"}
    choices = [(names[each], each) for each in context.models.backends]
    return gr.Radio(choices, value=context.models.backends[0], label="Backend")


def show_to_owners(part: gr.Tab | gr.Button) -> None:
    """Let owners alone see a part of the page, which begins invisible; what it calls refuses others in any case."""

    def visible(request: gr.Request) -> Any:
        return type(part)(visible=user_of(request).role == "owner")

    _page().load(visible, None, part, show_progress="hidden", api_visibility="private")


def _page() -> gr.Blocks:
    """Return the page that fields are being added to."""
    page = Building.root_block
    assert page is not None, "the fields are built inside of a page"
    return page
