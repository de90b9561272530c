"""Images as a page shows them."""

from typing import Literal

import gradio as gr
import numpy as np

from gan_shared.pictures import grid

# Pixels that a grid has at least in each direction, where its images are enlarged by whole factors.
LEAST = 640


def shown(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Return images uint8 (N, H, W, C) as one picture of three channels, large enough to be looked at.

    Args:
        images: in rows.
        columns: images in a row; the square root of N, rounded up, when not given.
    """
    sheet = enlarged(grid(images, columns), LEAST)
    return sheet.repeat(3 // sheet.shape[2], 2)


def enlarged(image: np.ndarray, least: int) -> np.ndarray:
    """Enlarge an image uint8 (H, W, C) by a whole factor to about so many pixels a side."""
    factor = max(1, round(least / max(image.shape[:2])))
    return image.repeat(factor, 0).repeat(factor, 1)


def picture(label: str, kind: Literal["numpy", "filepath"] = "numpy") -> gr.Image:
    """Add a place for a picture to the page, without the button that would send it to another site."""
    buttons: list = ["download", "fullscreen"]
    return gr.Image(label=label, type=kind, format="png", interactive=False, elem_classes="pixels", buttons=buttons)
