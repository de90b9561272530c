"""Files of runs as the page shows them: a run may come from a stranger, so that a link could lead anywhere."""

from pathlib import Path

# Bytes of a file that is read at a request.
MAX_BYTES = 10 * 10**6


def is_shown(file: Path) -> bool:
    """Return whether a file of a run is one, in a folder that is no link, and not too large to be read at a request."""
    linked = file.is_symlink() or file.parent.is_symlink()
    return file.is_file() and not linked and file.stat().st_size <= MAX_BYTES


def copied(file: Path, folder: Path) -> str:
    """Copy a file of a run to a folder that is served, as the files of runs are not, and return the copy's path."""
    copy = folder / file.name
    copy.write_bytes(file.read_bytes())
    return str(copy)
