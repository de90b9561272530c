"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``target`` that takes its place when the block ends well.

    The block creates a file or a folder at the yielded path. Everything in it is flushed to the disk
    before the rename, so that a power cut leaves the old content or the new one. An existing *file* is
    replaced; an existing folder is replaced only by a folder. When the block raises, the temporary
    path is removed and ``target`` stays as it was.

    Args:
        target: the file or folder to be; its parent is created when missing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            _flush(path)
        if target.is_dir() and temporary.is_dir():
            # A folder cannot be renamed over a full one: move the old one aside first.
            retired = target.with_name(f".{target.name}.{uuid4().hex[:8]}.retired")
            os.replace(target, retired)
            os.replace(temporary, target)
            shutil.rmtree(retired)
        else:
            os.replace(temporary, target)
        _flush(target.parent)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    """Ask the operating system to write ``path`` to the disk, where it can."""
    # Windows opens no folders and flushes only files that are open for writing: then there is less to promise.
    with suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
