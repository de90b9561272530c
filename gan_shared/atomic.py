"""Files and folders that appear whole or not at all."""

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from uuid import uuid4

from gan_shared.errors import unexpected

# Names of what is not in its place yet, or not any more.
LEFTOVER = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{8}\.(?P<kind>partial|retired)")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``target`` that takes its place when the block ends well.

    The block creates a file or a folder at the yielded path. Everything in it is flushed to the disk
    before the rename, so that a power cut leaves the old content or the new one. An existing *file* is
    replaced; an existing folder is replaced only by a folder. When the block raises, the temporary
    path is removed and ``target`` stays as it was.

    Args:
        target: the file or folder to be; its parent is created when missing.

    Raises:
        UserError: a pipe or a device is in its place.
        OSError: it cannot be written; see ``naming``.
    """
    _check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    try:
        with naming(target, temporary):
            yield temporary
            for path in [*sorted(temporary.rglob("*")), temporary]:
                _flush(path)
        if target.is_dir() and temporary.is_dir():
            _replace_folder(temporary, target)
        else:
            os.replace(temporary, target)
        _flush(target.parent)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def _check_replaceable(target: Path) -> None:
    """Refuse to put a file in the place of a pipe or a device, ``/dev/null`` for one.

    Raises:
        UserError: naming it.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = os.stat(target).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise unexpected(str(target), "a pipe or a device", "a file or a folder, or a place for one")


@contextmanager
def naming(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name the file that a block writes in an OSError that does not: writes on a full disk or past a limit do not.

    Args:
        target: the file.
        temporary: another name of it, that says nothing to a user.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(target)
        elif temporary is not None and isinstance(error.filename, str):
            error.filename = error.filename.replace(str(temporary), str(target))
        raise


def clear_leftovers(folder: Path, older_than: float = 0.0) -> None:
    """Clear away what ``replacing`` left in a folder where its process was killed.

    A folder that was to be replaced comes back where nothing has taken its place yet.

    Args:
        folder: the folder.
        older_than: where other processes may be writing there: seconds since anything was written to what is removed.
            Nothing comes back then.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        match = LEFTOVER.fullmatch(path.name)
        if match is None or (older_than and (match["kind"] != "partial" or time() - _written(path) < older_than)):
            continue
        target = folder / match["target"]
        if match["kind"] == "retired" and not target.exists():
            os.replace(path, target)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _written(path: Path) -> float:
    """Return when a file, or anything in a folder, was last written to, in seconds since the epoch."""
    try:
        return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    except OSError:  # it has just been put in its place, or is not this user's
        return time()


def check_parents(option: str, path: Path) -> None:
    """Refuse a path that leads through a file.

    Args:
        option: what the path was given by.
        path: where something is to be written.

    Raises:
        UserError: naming the file.
    """
    there = next((each for each in path.absolute().parents if each.exists() or each.is_symlink()), None)
    if there is not None and not there.is_dir():
        raise unexpected(option, f"{path}, below the file {there}", "a place in a folder")


def _replace_folder(new: Path, old: Path) -> None:
    """Put a folder in the place of another, which a rename alone cannot do when that is not empty."""
    retired = old.with_name(f".{old.name}.{uuid4().hex[:8]}.retired")
    os.replace(old, retired)
    try:
        os.replace(new, old)
    except BaseException:
        os.replace(retired, old)
        raise
    if retired.is_symlink():
        retired.unlink(missing_ok=True)
    else:
        shutil.rmtree(retired, ignore_errors=True)


def _flush(path: Path) -> None:
    """Ask the operating system to write ``path`` to the disk; what it could not write is an OSError."""
    if sys.platform == "win32":  # opens no folders and flushes only what is open for writing
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder: there the rename alone must do.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
