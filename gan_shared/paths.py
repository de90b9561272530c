"""Paths as users type them."""

import os
from errno import ENAMETOOLONG
from pathlib import Path

from gan_shared.errors import unexpected


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder for ``~``, which a shell leaves as it is behind ``--out=``.

    The ``~name`` of a user that there is none of stays as it is, and so names a file that is not there. A folder called
    ``~`` has to be named from the root.
    """
    return Path(os.path.expanduser(path))


def checked(option: str, path: object) -> Path:
    """Return the path that was given to a function, with the home folder for ``~``.

    Args:
        option: the name of the argument.
        path: a string or a path object; nothing has to be there.

    Raises:
        UserError: it is something else, or the file system cannot hold such a name.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise unexpected(option, repr(path), "a string or a pathlib.Path")
    try:
        os.lstat(expanded(os.fspath(path)))
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise unexpected(option, repr(path), "a path that the file system can hold") from error
    except OSError as error:
        if error.errno == ENAMETOOLONG:
            raise unexpected(option, f"{len(os.fspath(path)):,} characters", "a shorter path") from error
    return expanded(os.fspath(path))
