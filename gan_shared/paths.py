"""Paths as users type them."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder for ``~``, which a shell leaves as it is behind ``--out=``.

    The ``~name`` of a user that there is none of stays as it is, and so names a file that is not there. A folder called
    ``~`` has to be named from the root.
    """
    return Path(os.path.expanduser(path))
