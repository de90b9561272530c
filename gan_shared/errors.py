"""Mistakes of the user, who can correct them: one line, no traceback, exit status 2."""

import importlib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np


class UserError(Exception):
    """A mistake in what the user gave: an option, a file, a run folder.

    The command line prints the message as one line and exits with status 2.
    """


class NotFinite(UserError):
    """The losses of a run are no longer finite.

    Attributes:
        signal_number: of the signal that had asked for the run's end before; 0 for none.
    """

    signal_number = 0


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line that a terminal shows as it is.

    Errors of the operating system name the file first that was to be made or read; control characters, which may come
    from a name or a file, are spelled out.
    """
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        file = error.filename if error.filename2 is None else error.filename2
        if isinstance(file, (str, bytes, os.PathLike)) and file:
            message = f"{os.fsdecode(file)}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return printable(" ".join(each.strip() for each in message.splitlines()))


def printable(text: str) -> str:
    """Return text as a terminal shows it: control characters, which may come from a name or a file, are spelled out."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def optional_module(name: str, field: str, found: str, extra: str) -> Any:
    """Import a module of a package that only some need.

    Args:
        name: of the module.
        field: what needs it, for the error message.
        found: what was found there, likewise.
        extra: the extra of pyproject.toml that brings it.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise unexpected(field, found, f"it installed: pip install -e '.[{extra}]'") from error


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, Python's or NumPy's, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def unexpected(field: str, found: object, expected: str, choices: Iterable[object] = ()) -> UserError:
    """Build the one-line error that names field, found, expected and choices.

    Args:
        field: the option or file that is wrong, as the user spells it.
        found: what was found there.
        expected: what would have been right.
        choices: every valid value, where they can be listed.

    Returns:
        The error, to be raised by the caller.
    """
    message = f"{field}: found {found}, expected {expected}"
    listed = ", ".join(str(choice) for choice in choices)
    return UserError(message + (f"; choices: {listed}" if listed else ""))
