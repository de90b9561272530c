"""The tab that makes images."""

import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from gan_app.context import ONE_AT_A_TIME, Context, answering, check_number
from gan_app.models import make
from gan_app.pages.choosing import choose
from gan_app.pictures import picture, shown
from gan_shared.errors import UserError
from gan_shared.latents import LatentSource, check_request, parse_seeds
from gan_shared.pictures import grid, save_png, to_pillow

# A truncation at the right end of its slider is none.
NO_TRUNCATION = 3.0


def build(context: Context) -> None:
    """Add the tab's fields to the page."""
    with gr.Row():
        with gr.Column(scale=1):
            choice = choose(context)
            info = "One image of each: 1 2 5-9. Of a single one as many as below."
            seeds = gr.Textbox("0-15", label="Seeds", info=info)
            count = gr.Slider(1, context.limits.images, value=16, step=1, label="Images of a single seed")
            truncation = gr.Slider(
                0.1,
                NO_TRUNCATION,
                value=NO_TRUNCATION,
                step=0.05,
                label="Truncation",
                info="Lower is more typical and less varied, and one category each; at the right end there is none.",
            )
            ema = gr.Checkbox(True, label="Averaged generator (EMA)")
            button = gr.Button("Generate", variant="primary")
        with gr.Column(scale=2):
            image = picture("Images")
            with gr.Row():
                downloads = [gr.DownloadButton(f"Download {kind}", interactive=False) for kind in ("PNG", "ZIP", "NPZ")]

    @answering(context, "generate", computes=True)
    def generate(
        run: str,
        checkpoint: str,
        backend: str,
        classes: list[str],
        seeds: str,
        count: float,
        truncation: float,
        ema: bool,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        latents = source_of(seeds, truncation, context.limits.images)
        number = len(latents.seeds) or check_number("images", count, context.limits.images)
        check_request(number, latents)
        within_time, made = context.deadline(), list[np.ndarray]()
        for batch in make(context.models.open(run, checkpoint, backend), latents, number, classes, ema):
            within_time()
            made.append(batch)
            yield [shown(np.concatenate(made)), *(gr.skip() for _ in downloads)]
        names = [f"seed{seed:04d}" for seed in latents.seeds] or [f"{i:04d}" for i in range(number)]
        files = save(context.new_folder(), np.concatenate(made), names)
        yield [gr.skip(), *(gr.DownloadButton(value=str(file), interactive=True) for file in files)]

    fields = [*choice.fields(), seeds, count, truncation, ema]
    button.click(generate, fields, [image, *downloads], api_name="generate", **ONE_AT_A_TIME)


def source_of(seeds: str, truncation: float | None, most: int) -> LatentSource:
    """Return where latents come from: one seed's, or one of each of several, of which there may be so many."""
    listed = parse_seeds(seeds.split(), most)
    limit = None if truncation is None or truncation >= NO_TRUNCATION else float(truncation)
    if not listed:
        raise UserError("seeds: found none, expected whole numbers and ranges of them, such as 1 2 5-9")
    if len(listed) == 1 and "-" not in seeds:
        return LatentSource(listed[0], truncation=limit)
    return LatentSource(seeds=listed, truncation=limit)


def save(folder: Path, images: np.ndarray, names: Sequence[str]) -> list[Path]:
    """Write images as a grid, as an archive of single pictures, and as an array; return the files."""
    sheet, archive, arrays = folder / "images.png", folder / "images.zip", folder / "images.npz"
    save_png(sheet, grid(images))
    with zipfile.ZipFile(archive, "w") as zipped:
        for place, (name, image) in enumerate(zip(names, images, strict=True)):
            content = BytesIO()
            to_pillow(image).save(content, format="PNG")
            zipped.writestr(f"{name}.png" if names.count(name) == 1 else f"{name}-{place}.png", content.getvalue())
    np.savez_compressed(arrays, images=images)
    return [sheet, archive, arrays]
