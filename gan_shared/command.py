"""How a command ends: a user's mistake is one line on standard error and exit status 2, as in training."""

import io
import sys
from collections.abc import Callable

from gan_shared.errors import UserError, one_line
from gan_shared.interrupt import status_of


def spell_out() -> None:
    """Let standard output spell out what its encoding has no character for, as standard error does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def guarded(work: Callable[[], None], left: str = "nothing was written") -> int:
    """Run ``work`` and return the exit status; the expected errors are printed as one line.

    Args:
        work: the command.
        left: what is printed when it is interrupted: what has been written until then.

    Returns:
        0; 2 after a UserError or an OSError; the status of an interrupted process after a signal.
    """
    spell_out()
    try:
        work()
    except (UserError, OSError) as error:  # a full disk or a missing file is no fault of the program
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"stopped: {left}", file=sys.stderr)
        return status_of(stop)
    return 0
