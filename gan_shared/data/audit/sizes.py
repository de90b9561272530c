"""How large the pictures of a folder are in their files, which decoded images do not show any more."""

import numpy as np

from gan_shared.data.audit.findings import Finding
from gan_shared.data.picture import size_of
from gan_shared.data.source import Source, reading
from gan_shared.errors import UserError

# Bytes of a file in which most formats say how large the picture is; where they do not, all of it is read.
HEAD_BYTES = 2**16
# By how much a picture must have been enlarged to be found.
FACTOR = 2.0


def picture_sizes(source: Source) -> np.ndarray | None:
    """Return width and height of each picture of a folder, int64 (N, 2); None for other sources. No pixel is decoded.

    Raises:
        UserError: a file cannot be read.
    """
    if source.kind != "folder":
        return None
    return np.array([_size(source, file) for file in source.names], np.int64)


def enlarged_pictures(sizes: np.ndarray, resolution: int) -> list[Finding]:
    """Return the pictures whose shorter side had to be enlarged more than twofold.

    Args:
        sizes: what ``picture_sizes`` returns.
        resolution: height and width of the decoded images in pixels.
    """
    sides = sizes.min(1)
    return [
        Finding("enlarged", int(i), float(sides[i] / resolution), note=f"{sizes[i, 0]} x {sizes[i, 1]} pixels")
        for i in np.flatnonzero(resolution > FACTOR * sides)
    ]


def _size(source: Source, file: str) -> tuple[int, int]:
    """Return width and height that the header of a picture says."""
    path = source.root / file
    with reading(path, "a file that can be read"), open(path, "rb") as stream:
        head = stream.read(HEAD_BYTES)
        try:
            return size_of(head, str(path))
        except UserError:
            return size_of(head + stream.read(), str(path))
