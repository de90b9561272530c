"""The tab that moves through a latent space: walks between seeds, directions of one seed, blends of classes."""

from collections.abc import Iterator
from functools import lru_cache

import gradio as gr
import numpy as np

from gan_app.context import ONE_AT_A_TIME, Context, answering, check_number
from gan_app.directions import principal_directions
from gan_app.models import KEPT, Opened, make_blends, make_of
from gan_app.pages.choosing import Choice, choose
from gan_app.pages.generate import source_of
from gan_app.pictures import enlarged, picture, shown
from gan_shared.errors import UserError, unexpected
from gan_shared.latents import FRAMES_PER_LATENT, LatentSource, blends
from gan_shared.pictures import save_gif, save_mp4
from gan_shared.sample import check_class_ids, class_numbers

# Directions, and how far one goes along each in the length of a latent.
DIRECTIONS, FARTHEST = 5, 1.5
# Frames that are made at once, and the side of a frame in pixels: Pillow holds all of a GIF.
BATCH, FRAME_SIDE = 64, 256
# Images from one class to the next.
MOST_BLENDS = 16


def build(context: Context) -> None:
    """Add the tab's fields to the page."""
    choice = choose(context)
    with gr.Row():
        with gr.Column():
            _add_walk(context, choice)
        with gr.Column():
            _add_directions(context, choice)
    _add_blends(context, choice)


def _add_walk(context: Context, choice: Choice) -> None:
    """Add the fields of a walk, and what they do."""
    gr.Markdown("### A walk between seeds, and back to the first")
    seeds = gr.Textbox("1 2 3 4", label="Seeds to walk between")
    frames = gr.Slider(2, context.limits.frames, value=4 * FRAMES_PER_LATENT, step=1, label="Frames")
    kind = gr.Radio(["GIF", "MP4"], value="GIF", label="File")
    walk = gr.Button("Walk", variant="primary")
    animation = picture("Walk", kind="filepath")
    film = gr.Video(label="Walk", visible=False, autoplay=True, loop=True, buttons=["download"])

    @answering(context, "walk", computes=True)
    def make_walk(
        run: str,
        checkpoint: str,
        backend: str,
        classes: list[str],
        seeds: str,
        frames: float,
        kind: str,
        request: gr.Request,
    ) -> tuple[gr.Image, gr.Video]:
        latents = source_of(seeds, None, context.limits.frames)
        if len(latents.seeds) < 2:
            raise UserError("seeds: found one, expected two or more to walk between")
        number = check_number("frames", frames, context.limits.frames)
        if number < len(latents.seeds):
            raise unexpected("frames", number, f"at least the {len(latents.seeds)} seeds, as each is a frame")
        if kind not in ("GIF", "MP4"):
            raise unexpected("file", repr(kind), "a kind of animation", ("GIF", "MP4"))
        opened, within_time = context.models.open(run, checkpoint, backend), context.deadline()
        shown_class = one_class(opened, classes)
        path = np.concatenate(list(latents.walk(number, opened.config.networks.latent_size)))
        file = context.new_folder() / f"walk.{kind.lower()}"

        def pictures() -> Iterator[np.ndarray]:
            for first in range(0, number, BATCH):
                for image in make_of(opened, path[first : first + BATCH], shown_class):
                    within_time()
                    yield enlarged(image, FRAME_SIDE)

        (save_gif if kind == "GIF" else save_mp4)(file, pictures())
        if kind == "GIF":
            return gr.Image(value=str(file), visible=True), gr.Video(value=None, visible=False)
        return gr.Image(value=None, visible=False), gr.Video(value=str(file), visible=True)

    fields = [*choice.fields(), seeds, frames, kind]
    walk.click(make_walk, fields, [animation, film], api_name="walk", **ONE_AT_A_TIME)


def _add_directions(context: Context, choice: Choice) -> None:
    """Add the fields of one seed's directions, and what they do."""
    gr.Markdown("### One seed, along the directions that change images most")
    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    names = [f"Direction {number}" for number in range(1, DIRECTIONS + 1)]
    sliders = [gr.Slider(-FARTHEST, FARTHEST, value=0, step=0.05, label=name) for name in names]
    nudge = gr.Button("Show", variant="primary")
    image = picture("Image")

    @lru_cache(maxsize=KEPT)
    def directions(opened: "ById", classes: tuple[str, ...]) -> np.ndarray:
        return principal_directions(opened.opened, DIRECTIONS, classes)

    @answering(context, "nudge", computes=True)
    def move(
        run: str,
        checkpoint: str,
        backend: str,
        classes: list[str],
        seed: float,
        first: float,
        second: float,
        third: float,
        fourth: float,
        fifth: float,
        request: gr.Request,
    ) -> np.ndarray:
        amounts = (first, second, third, fourth, fifth)
        latents = one_seed(seed)
        for amount in amounts:
            if not isinstance(amount, (int, float)) or not abs(amount) <= FARTHEST:
                raise unexpected("direction", amount, f"a number from {-FARTHEST} to {FARTHEST}")
        opened = context.models.open(run, checkpoint, backend)
        shown_class = one_class(opened, classes)
        found = directions(ById(opened), tuple(shown_class))
        moved = latents.draw(1, found.shape[1]) + np.asarray(amounts, np.float32) @ found[: len(amounts)]
        return shown(make_of(opened, moved.astype(np.float32), shown_class))

    events = [nudge.click, *(slider.release for slider in sliders)]
    gr.on(events, move, [*choice.fields(), seed, *sliders], image, api_name="nudge", **ONE_AT_A_TIME)


def _add_blends(context: Context, choice: Choice) -> None:
    """Add the fields of blends of classes, and what they do."""
    gr.Markdown("### One seed, from class to class: choose two or more of a class-conditional run above")
    with gr.Row():
        seed = gr.Number(0, label="Seed of the blend", precision=0, minimum=0)
        count = gr.Slider(2, MOST_BLENDS, value=9, step=1, label="Images from each class to the next")
    button = gr.Button("Blend", variant="primary")
    image = picture("Blend")

    @answering(context, "blend", computes=True)
    def blend(
        run: str,
        checkpoint: str,
        backend: str,
        classes: list[str],
        seed: float,
        count: float,
        request: gr.Request,
    ) -> np.ndarray:
        latents, number = one_seed(seed), check_number("images", count, MOST_BLENDS)
        check_number("images", number * max(1, len(classes) - 1), context.limits.images)
        opened = context.models.open(run, checkpoint, backend)
        names, num_classes = opened.class_names, opened.config.num_classes
        if not names:
            raise unexpected("run", run, "one whose generator is class-conditional")
        chosen = class_numbers(classes, names)
        check_class_ids(opened.config, chosen, names)
        return shown(make_blends(opened, latents, blends(chosen, number, num_classes)), number)

    button.click(blend, [*choice.fields(), seed, count], image, api_name="blend", **ONE_AT_A_TIME)


def one_seed(seed: float) -> LatentSource:
    """Return where the latent of a seed comes from.

    Raises:
        UserError: it is no number that one follows from.
    """
    if not isinstance(seed, (int, float)) or seed != seed or seed != int(seed):
        raise unexpected("seed", seed, "a whole number from 0")
    latents = LatentSource(int(seed))
    latents.check()
    return latents


def one_class(opened: Opened, classes: list[str]) -> tuple[str, ...]:
    """Return the class that all images have: the chosen one, or the first; none without classes.

    Raises:
        UserError: several are chosen.
    """
    if len(classes) > 1:
        raise unexpected("classes", ", ".join(classes), "one, which all images have here")
    return (*classes, *opened.class_names)[:1]


class ById:
    """A generator as the key of a cache: itself, not its values.

    Args:
        opened: the generator.
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened

    def __hash__(self) -> int:
        return id(self.opened.loaded)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ById) and self.opened.loaded is other.opened.loaded
