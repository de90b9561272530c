"""The tab that looks for the image of a generator that is most like an uploaded picture; for owners."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from gan_app.context import ONE_AT_A_TIME, Context, answering, check_number, user_of
from gan_app.models import Opened, projected, reconstruct
from gan_app.pages.choosing import Choice, choose
from gan_app.pages.explore import one_class, one_seed
from gan_app.pictures import picture, shown
from gan_shared.data.collection import MAX_FILE_BYTES
from gan_shared.data.picture import read_resized
from gan_shared.errors import UserError, unexpected
from gan_shared.image_conditions import is_image_conditional
from gan_shared.projection import STEPS, Projected

# What the pictures are called: the upload, what the generator makes of it, and how far they are apart.
TITLES = ("Picture", "Reconstruction", "Difference")


class Fields(NamedTuple):
    """Fields of the page.

    Attributes:
        choice: run, checkpoint, backend, classes.
        file: the picture.
        steps: of a projection.
        seed: of its first latents.
        start: button that begins.
        stop: button that ends with what there is.
    """

    choice: Choice
    file: gr.File
    steps: gr.Slider
    seed: gr.Number
    start: gr.Button
    stop: gr.Button


def build(context: Context) -> None:
    """Add the tab's fields to the page."""
    with gr.Row():
        with gr.Column(scale=1):
            fields = _add_fields(context)
        with gr.Column(scale=2):
            with gr.Row():
                images = [picture(title) for title in TITLES]
            text = gr.Textbox(label="Progress", interactive=False)
            download = gr.DownloadButton("Download NPZ", interactive=False)
    _add_handlers(context, fields, [*images, text, download])


def _add_fields(context: Context) -> Fields:
    """Add what is asked for."""
    choice = choose(context)
    file = gr.File(label="A picture", file_types=["image"], type="filepath", height=150)
    info = "Of a projection. A generator that is given images makes its reconstruction at once."
    steps = gr.Slider(1, context.limits.projection_steps, value=STEPS, step=1, label="Steps", info=info)
    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    with gr.Row():
        start = gr.Button("Reconstruct", variant="primary")
        stop = gr.Button("Stop")
    return Fields(choice, file, steps, seed, start, stop)


def _add_handlers(context: Context, fields: Fields, outputs: list[Any]) -> None:
    """Add what the buttons do."""
    stops: dict[str, Event] = {}  # of each user whose picture is being reconstructed

    @answering(context, "reconstruct", role="owner", computes=True)
    def begin(
        run: str,
        checkpoint: str,
        backend: str,
        classes: list[str],
        file: str | None,
        steps: float,
        seed: float,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        number = check_number("steps", steps, context.limits.projection_steps)
        source = one_seed(seed)
        opened = context.models.open(run, checkpoint, backend, given_images=True)
        if len(opened.generators) > 1:
            raise unexpected("run", f"{run}, a LAPGAN, each of whose levels has latents", "a single generator")
        content, name = taken(file)
        target = read_resized(content, name, opened.config.data_resolution, opened.config.image_shape[2])
        if is_image_conditional(opened.config):
            yield _at_once(context, opened, target, classes)
            return
        user, stop, time_is_up = user_of(request).name, Event(), context.clock()
        stops[user] = stop
        try:
            for found in projected(opened, target, classes, number, source.seed):
                ended = stop.is_set() or time_is_up() or found.step == number
                files = gr.skip() if not ended else _download(context, found, target)
                yield [*pictures(target, found.image), said(opened, found, number), files, None]
                if ended:
                    return
        finally:
            stops.pop(user, None)

    @answering(context, "stop reconstruction", role="owner")
    def end(request: gr.Request) -> None:
        stop = stops.get(user_of(request).name)
        if stop is None:
            raise UserError("nothing of yours is being reconstructed")
        stop.set()

    given = [*fields.choice.fields(), fields.file, fields.steps, fields.seed]
    fields.start.click(begin, given, [*outputs, fields.file], api_name="reconstruct", **ONE_AT_A_TIME)
    fields.stop.click(end, None, None, api_name="stop_reconstruction")


def taken(file: str | None) -> tuple[bytes, str]:
    """Return content and name of an uploaded file, which is removed.

    Raises:
        UserError: there is none, or it is larger than any picture.
    """
    if file is None or not Path(file).is_file():
        raise unexpected("picture", "none", "one to upload, anew each time, as it is removed once it was read")
    path = Path(file)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise unexpected(path.name, f"{path.stat().st_size:,} bytes", f"a file of at most {MAX_FILE_BYTES:,}")
        return path.read_bytes(), path.name
    finally:
        path.unlink()


def pictures(target: np.ndarray, made: np.ndarray) -> list[np.ndarray]:
    """Return both images uint8 (H, W, C), which may differ in size, and their difference, as the page shows them."""
    if target.shape != made.shape:  # a pyramid level's, which was made of the whole pyramid's
        target = target[:: len(target) // len(made), :: len(target) // len(made)]
    apart = np.abs(target.astype(int) - made).astype(np.uint8)
    return [shown(image[None]) for image in (target, made, apart)]


def said(opened: Opened, found: Projected, steps: int) -> str:
    """Return in one line how far a projection is."""
    of_class = "" if found.label is None else f", class {opened.class_names[found.label]}"
    ended = "" if found.step == steps else f" of {steps}"
    return f"{found.step}{ended} steps: {found.error:.1f} of 255 grey levels apart (root mean square){of_class}"


def _at_once(context: Context, opened: Opened, target: np.ndarray, classes: list[str]) -> list[Any]:
    """Return what the page shows of a generator that is given images."""
    made = reconstruct(opened, target, list(one_class(opened, classes)))
    images = pictures(target, made)
    arrays = {"images": made[None], "input_images": target[None]}
    return [*images, "Made of the picture itself.", _offered(context, arrays), None]


def _download(context: Context, found: Projected, target: np.ndarray) -> gr.DownloadButton:
    """Return the button that downloads a projection, in arrays of the names that the command ``sample`` gives them."""
    labels = {} if found.label is None else {"labels": np.array([found.label])}
    images = {"images": found.image[None], "input_images": target[None]}
    return _offered(context, {"latents": found.latents[None], **labels, **images})


def _offered(context: Context, arrays: dict[str, np.ndarray]) -> gr.DownloadButton:
    """Return the button that downloads arrays."""
    file = context.new_folder() / "reconstruction.npz"
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return gr.DownloadButton(value=str(file), interactive=True)
