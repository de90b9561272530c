"""The tab that makes the same images in both backends."""

from time import perf_counter

import gradio as gr
import numpy as np

from gan_app.context import ONE_AT_A_TIME, Context, answering
from gan_app.models import make
from gan_app.pages.choosing import choose
from gan_app.pages.generate import source_of
from gan_app.pictures import picture, shown

# Images at once, and timed repetitions of each backend, one after the other in turn.
IMAGES, REPETITIONS = 64, 3


def build(context: Context) -> None:
    """Add the tab's fields to the page."""
    if len(context.models.backends) < 2:
        gr.Markdown("Both frameworks must be installed: `pip install -e '.[torch,jax]'`.")
        return
    choice = choose(context, with_backend=False)
    seeds = gr.Textbox("0-15", label="Seeds", info="One image of each: 1 2 5-9.")
    button = gr.Button("Compare", variant="primary")
    with gr.Row():
        images = [picture(label) for label in ("PyTorch", "JAX", "Difference, the largest nearly white")]
    text = gr.Markdown()

    @answering(context, "compare", computes=True)
    def compare(
        run: str, checkpoint: str, classes: list[str], seeds: str, request: gr.Request
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        latents = source_of(seeds, None, IMAGES)
        number = len(latents.seeds) or 1
        opened = {name: context.models.open(run, checkpoint, name) for name in ("torch", "jax")}
        within_time, made, seconds = context.deadline(), {}, {name: [] for name in opened}
        for repetition in range(REPETITIONS + 1):
            for name, each in opened.items():
                begun = perf_counter()
                made[name] = np.concatenate(list(make(each, latents, number, classes)))
                if repetition:  # the first time compiles
                    seconds[name].append(perf_counter() - begun)
                within_time()
        difference = np.abs(made["torch"].astype(int) - made["jax"])
        largest = int(difference.max())
        scaled = (difference * (255 // max(1, largest))).astype(np.uint8)
        torch, jax = (1000 * min(seconds[name]) for name in ("torch", "jax"))
        said = (
            f"**Largest difference: {largest} of 255 grey levels**, at {np.count_nonzero(difference):,} of "
            f"{difference.size:,} numbers. PyTorch {torch:.1f} ms, JAX {jax:.1f} ms for {number} images: the fastest "
            f"of {REPETITIONS}, in turn, behind one that compiles."
        )
        return shown(made["torch"]), shown(made["jax"]), shown(scaled), said

    button.click(compare, [*choice.fields(), seeds], [*images, text], api_name="compare", **ONE_AT_A_TIME)
