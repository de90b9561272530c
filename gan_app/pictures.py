"""Images as a page shows them."""

import numpy as np

from gan_shared.pictures import grid

# Pixels that a grid has at least in each direction, where its images are enlarged by whole factors.
LEAST = 640


def shown(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Return images uint8 (N, H, W, C) as one picture of three channels, large enough to be looked at."""
    sheet = grid(images, columns)
    factor = max(1, round(LEAST / max(sheet.shape[:2])))
    return sheet.repeat(factor, 0).repeat(factor, 1).repeat(3 // sheet.shape[2], 2)
